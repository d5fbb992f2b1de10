"""The approver's client against the hub's own application; what a hostile hub may try is in tests/fault/approvals."""

from pathlib import Path

import httpx
import pytest

from cloud_hub.approvals.client import ApprovalOutcome, approve
from cloud_hub.hub import Hub
from cloud_hub.signing.errors import HubAnswerError
from cloud_hub.signing.keys import file_uri, private_path, public_path
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import release_files


class InProcess(httpx.BaseTransport):
    """The test client's way to the application, which lacks a transport's life cycle."""

    def __init__(self, http: httpx.Client) -> None:
        self._inner = http._transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._inner.handle_request(request)


@pytest.fixture
def trust(hub: Hub, tmp_path: Path) -> Path:
    """An approver's folder, as the ceremony hands it over."""
    folder = tmp_path / "approver"
    folder.mkdir()
    (folder / "root.json").write_bytes(hub.repository.published("root"))
    return folder


def approve_as(people: People, trust: Path, name: str, *, token: str | None = None) -> ApprovalOutcome:
    folder = people.keys / "approvers"
    return approve(
        hub_url="http://testserver.local",
        token=people.tokens["approver"] if token is None else token,
        trust_dir=trust,
        key_uri=file_uri(private_path(folder, name)),
        public_key_path=public_path(folder, name),
        model="digits",
        release=1,
        confirm=lambda text: "release 1" in text,
        transport=InProcess(people.http),
    )


def test_two_approvers_publish_what_the_author_submitted(hub: Hub, people: People, trust: Path) -> None:
    people.upload(release_files())
    assert people.submit().is_success
    first = approve_as(people, trust, "alice")
    assert first.receipt is not None
    assert (first.receipt.signed_by, first.receipt.published) == (("alice",), False)
    second = approve_as(people, trust, "bob")
    assert second.receipt is not None
    assert second.receipt.published
    assert "models/digits/1/manifest.json" in hub.repository.targets("digits")


def test_the_hubs_own_words_come_through(people: People, trust: Path) -> None:
    with pytest.raises(HubAnswerError, match=r"no draft is open.*HTTP 404"):
        approve_as(people, trust, "alice")


def test_a_token_that_is_not_valid(people: People, trust: Path) -> None:
    with pytest.raises(HubAnswerError, match="401"):
        approve_as(people, trust, "alice", token="nonsense")


def test_a_token_without_the_role(people: People, trust: Path) -> None:
    people.upload(release_files())
    assert people.submit().is_success
    with pytest.raises(HubAnswerError, match=r"refused the signature: .*HTTP 403"):
        approve_as(people, trust, "alice", token=people.tokens["viewer"])
