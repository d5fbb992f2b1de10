"""Drafts that take a release out, or only live longer: what the approver's client signs of them, and what not."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, TargetFile, Targets

from cloud_hub.approvals.removal import Removal
from cloud_hub.signing.errors import DraftRefusedError
from tests.fault.approvals.hostile_hub import HostileHub


@pytest.fixture
def hub(tmp_path: Path) -> HostileHub:
    """Releases 1 and 2 are published, nothing is open."""
    hub = HostileHub(tmp_path)
    for release in (1, 2):
        hub.submit(release)
        hub.approve_as("ada", release)
        hub.approve_as("ben", release)
    hub.shown.clear()
    return hub


def test_two_approvers_withdraw_a_release(hub: HostileHub) -> None:
    first = hub.approve_as("ada", 2, withdraw=True)
    assert isinstance(first.difference, Removal)
    assert "Withdraw digits release 2?" in first.text
    assert "removes   7 files: bench.json" in first.text
    assert "stay      releases 1\n" in first.text
    second = hub.approve_as("cyd", 2, withdraw=True)
    assert second.receipt is not None
    assert second.receipt.published
    assert {path.split("/")[2] for path in hub.repository.targets("digits")} == {"1"}


def test_two_approvers_renew_a_role_without_a_release(hub: HostileHub) -> None:
    before = hub.repository.targets("digits")
    first = hub.approve_as("ada", None)
    assert "adds and removes nothing" in first.text
    second = hub.approve_as("ben", None)
    assert second.receipt is not None
    assert second.receipt.published
    assert hub.repository.targets("digits") == before
    role = Metadata[Targets].from_bytes(hub.repository.published("digits")).signed
    assert (role.expires - datetime.now(UTC)).days >= 89


def add(draft: Targets) -> None:
    path = "models/digits/3/manifest.json"
    draft.targets[path] = TargetFile(3, {"sha256": "0" * 64}, path)


def remove(path: str) -> Callable[[Targets], None]:
    def change(draft: Targets) -> None:
        del draft.targets[path]

    return change


def put_back(draft: Targets) -> None:
    path = "models/digits/2/model.onnx"
    draft.targets[path] = TargetFile(len("model.onnx of release 2"), {"sha256": "0" * 64}, path)


TRICKS: dict[str, tuple[Callable[[Targets], None], str]] = {
    "adds a release under the name of a removal": (add, "adds 'models/digits/3/manifest.json'"),
    "takes more than was asked for": (remove("models/digits/1/model.onnx"), "removes what it should not"),
    "raises the expiry": (lambda d: setattr(d, "expires", datetime(2100, 1, 1, tzinfo=UTC)), "within 90 days"),
    "skips a version": (lambda d: setattr(d, "version", 9), "must be 4"),
    "changes what stays": (
        lambda d: setattr(d.targets["models/digits/1/model.onnx"], "length", 1), "changes what is published"),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("release", [2, None], ids=["withdrawal", "renewal"])
def test_a_draft_that_does_anything_else_is_not_signed(
    hub: HostileHub, trick: str, release: int | None
) -> None:
    change, words = TRICKS[trick]
    hub._propose({"withdraw": release})
    hub.tamper(change)
    with pytest.raises(DraftRefusedError, match=words):
        hub.approve_as("ada", release, withdraw=release is not None)
    assert hub.shown == []
    assert hub.open_draft is not None
    assert Metadata.from_bytes(hub.open_draft).signatures == {}


def test_half_a_withdrawal_is_none(hub: HostileHub) -> None:
    hub._propose({"withdraw": 2})
    hub.tamper(put_back)
    with pytest.raises(DraftRefusedError, match="changes what is published"):
        hub.approve_as("ada", 2, withdraw=True)
    path, (length, sha256) = next(
        (path, file)
        for path, file in hub.repository.targets("digits").items()
        if path.endswith("2/model.onnx")
    )
    hub.tamper(lambda draft: draft.targets.update({path: TargetFile(length, {"sha256": sha256}, path)}))
    with pytest.raises(DraftRefusedError, match=r"leaves some of release 2: 'models/digits/2/model\.onnx'"):
        hub.approve_as("ada", 2, withdraw=True)


def test_a_renewal_that_withdraws_in_silence(hub: HostileHub) -> None:
    hub._propose({"withdraw": 2})
    with pytest.raises(DraftRefusedError, match="removes what it should not"):
        hub.approve_as("ada", None)


def test_a_withdrawal_where_an_approval_was_asked_for(hub: HostileHub) -> None:
    hub._propose({"withdraw": 2})
    with pytest.raises(DraftRefusedError, match="removes what is published"):
        hub.approve_as("ada", 3)


def test_what_is_not_published_can_not_be_withdrawn(hub: HostileHub) -> None:
    hub._propose({"withdraw": None})
    with pytest.raises(DraftRefusedError, match="release 9 is not published"):
        hub.approve_as("ada", 9, withdraw=True)
