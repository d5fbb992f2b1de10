"""Approving is not blind: what a hub may try, and that nothing is signed then."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, Metadata, TargetFile, Targets

from cloud_hub.signing.errors import (
    ApprovalError,
    DraftRefusedError,
    HubAnswerError,
    KeyFileError,
    UntrustedBaseError,
)
from cloud_hub.signing.keys import create_key
from tests.fault.approvals.hostile_hub import HostileHub

MODEL = "models/digits/2/model.onnx"
PUBLISHED = "models/digits/1/model.onnx"


@pytest.fixture
def hub(tmp_path: Path) -> HostileHub:
    """Release 1 is published, and a draft of release 2 is open."""
    hub = HostileHub(tmp_path)
    hub.submit(1)
    hub.approve_as("ada")
    hub.approve_as("ben")
    hub.submit(2)
    hub.shown.clear()
    return hub


def test_two_approvers_publish_a_release(hub: HostileHub) -> None:
    first = hub.approve_as("ada", 2)
    assert first.receipt is not None
    assert (first.receipt.signed_by, first.receipt.published) == (("ada",), False)
    second = hub.approve_as("cyd", 2)
    assert second.receipt is not None
    assert second.receipt.published
    assert MODEL in hub.repository.targets("digits")
    assert "model.onnx" in first.text
    assert "7 files" in first.text


def test_who_does_not_confirm_signs_nothing(hub: HostileHub) -> None:
    assert hub.approve_as("ada", 2, confirm=False, key="no-such-key").receipt is None
    assert hub.open_draft is not None
    assert Metadata.from_bytes(hub.open_draft).signatures == {}


def add(path: str) -> Callable[[Targets], None]:
    def change(draft: Targets) -> None:
        draft.targets[path] = TargetFile(3, {"sha256": "0" * 64}, path)

    return change


def leave_out(path: str) -> Callable[[Targets], None]:
    def change(draft: Targets) -> None:
        del draft.targets[path]

    return change


def set_field(name: str, value: object) -> Callable[[Targets], None]:
    return lambda draft: setattr(draft, name, value)


def set_target(path: str, name: str, value: object) -> Callable[[Targets], None]:
    return lambda draft: setattr(draft.targets[path], name, value)


TRICKS: dict[str, tuple[Callable[[Targets], None], str]] = {
    "slips in a file of another release": (add("models/digits/3/manifest.json"), "no file of digits release 2"),
    "slips in a file of another model": (add("models/faces/2/model.onnx"), "no file of digits release 2"),
    "slips in a file below the release": (add("models/digits/2/a/b"), "no file of digits release 2"),
    "slips in a file that escapes": (add("models/digits/2/.."), "no file of digits release 2"),
    "slips in a file that the manifest lacks": (add("models/digits/2/extra.bin"), "does not name"),
    "slips a file into a published release": (add("models/digits/1/extra.bin"), "no file of digits release 2"),
    "removes a published file": (leave_out(PUBLISHED), "removes"),
    "changes a published file's hash": (set_target(PUBLISHED, "hashes", {"sha256": "0" * 64}), "changes"),
    "changes a published file's length": (set_target(PUBLISHED, "length", 1), "changes"),
    "leaves out a file of the release": (leave_out(MODEL), "lacks"),
    "leaves out the manifest": (leave_out("models/digits/2/manifest.json"), "has no"),
    "names another hash for a file": (set_target(MODEL, "hashes", {"sha256": "0" * 64}), "does not name so"),
    "adds a weak hash": (set_target(MODEL, "hashes", {"md5": "0" * 32}), "one SHA-256"),
    "adds data to a file": (set_target(MODEL, "unrecognized_fields", {"custom": 1}), "nothing else"),
    "raises the expiry": (set_field("expires", datetime.now(UTC) + timedelta(days=91)), "within 90 days"),
    "is expired already": (set_field("expires", datetime(2020, 1, 1, tzinfo=UTC)), "within 90 days"),
    "skips a version": (set_field("version", 9), "must be 3"),
    "repeats a version": (set_field("version", 2), "must be 3"),
    "adds a delegation": (set_field("delegations", Delegations({}, {})), "delegates"),
    "is another model's": (set_field("unrecognized_fields", {"model": "faces"}), "allowed is model='digits'"),
    "adds a field": (set_field("unrecognized_fields", {"model": "digits", "device": "cam-1"}), "allowed is"),
}  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_a_draft_that_does_anything_else_is_not_signed(hub: HostileHub, trick: str) -> None:
    change, words = TRICKS[trick]
    hub.tamper(change)
    with pytest.raises(DraftRefusedError, match=words):
        hub.approve_as("ada", 2)
    assert hub.shown == []
    assert hub.open_draft is not None
    assert Metadata.from_bytes(hub.open_draft).signatures == {}


def test_a_published_release_can_not_be_approved_again(hub: HostileHub) -> None:
    with pytest.raises(DraftRefusedError, match="published already"):
        hub.approve_as("ada", 1)


def test_a_draft_of_another_release_than_the_one_named(hub: HostileHub) -> None:
    with pytest.raises(DraftRefusedError, match="no file of digits release 3"):
        hub.approve_as("ada", 3)


@pytest.mark.parametrize("served", [b"model.onnx of release X", b"", b"x" * 10_000])
def test_an_artifact_whose_bytes_are_not_the_ones_named(hub: HostileHub, served: bytes) -> None:
    _, sha256 = hub_targets(hub)[MODEL]
    hub.artifacts[sha256] = served
    with pytest.raises(DraftRefusedError, match=r"model\.onnx: the hub's bytes"):
        hub.approve_as("ada", 2)


def test_an_artifact_that_the_hub_does_not_have(hub: HostileHub) -> None:
    del hub.artifacts[hub_targets(hub)[MODEL][1]]
    with pytest.raises(HubAnswerError, match="there is none"):
        hub.approve_as("ada", 2)


def test_a_base_that_does_not_verify_from_the_approvers_own_root(hub: HostileHub) -> None:
    """A stolen hub publishes a role of its own making, and drafts on top of it."""
    role = hub.published_role()
    role.version += 1
    document = hub.sign_role(role, "ada")
    hub.list_unchecked("digits", document)
    with pytest.raises(UntrustedBaseError, match="1/2"):
        hub.approve_as("ben", 2)


def test_a_whole_repository_of_the_hubs_own_making(hub: HostileHub) -> None:
    hub.keys.offline = [CryptoSigner.generate_ed25519() for _ in range(3)]
    hub.remake()
    for kept in ("trust.json", "trust.copy.json"):
        (hub.folder / "trust" / kept).unlink()
    with pytest.raises(UntrustedBaseError, match="targets was signed by 0/2"):
        hub.approve_as("ada", 2)


def test_a_base_that_was_rolled_back(hub: HostileHub) -> None:
    old = dict(hub.store.files)
    hub.approve_as("ada", 2)
    hub.approve_as("ben", 2)
    hub.submit(3)
    hub.approve_as("ada", 3)
    hub.store.files = old
    hub.submit(4)
    with pytest.raises(UntrustedBaseError):
        hub.approve_as("ada", 4)


def test_a_key_that_is_not_an_approvers(hub: HostileHub) -> None:
    create_key(hub.folder / "keys", "mallory")
    with pytest.raises(ApprovalError, match="mallory is not one of the approvers of digits"):
        hub.approve_as("mallory", 2)


def test_a_private_key_of_somebody_else(hub: HostileHub) -> None:
    with pytest.raises(KeyFileError, match="not the private half of ada"):
        hub.approve_as("ada", 2, key="ben")


def test_no_draft_is_open(hub: HostileHub) -> None:
    hub.open_draft = None
    with pytest.raises(HubAnswerError, match="there is none"):
        hub.approve_as("ada", 2)


@pytest.mark.parametrize("draft", [b"", b"{", b"[]", b'{"signed": {"_type": "root"}, "signatures": []}'])
def test_a_malformed_draft(hub: HostileHub, draft: bytes) -> None:
    hub.open_draft = draft
    with pytest.raises(DraftRefusedError, match="can't be read"):
        hub.approve_as("ada", 2)


def test_a_manifest_with_a_field_of_a_newer_version(hub: HostileHub) -> None:
    hub.tamper_manifest(b'{"schema": 2}')
    with pytest.raises(DraftRefusedError, match="schema 2 is newer"):
        hub.approve_as("ada", 2)


def hub_targets(hub: HostileHub) -> dict[str, tuple[int, str]]:
    assert hub.open_draft is not None
    signed = Metadata[Targets].from_bytes(hub.open_draft).signed
    return {path: (file.length, file.hashes["sha256"]) for path, file in signed.targets.items()}
