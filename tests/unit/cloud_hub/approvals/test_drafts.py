"""Drafts on the hub: one a model, void on a new base; withdrawals and renewals with what follows from them."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import IntegrityError
from tuf.api.metadata import Metadata, Targets

from cloud_hub.approvals.drafts import DraftKind
from cloud_hub.approvals.models import Approval, OpenDraft
from cloud_hub.approvals.service import settle
from cloud_hub.cli.ceremony import begin, publish_ceremony
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.hub import Hub
from cloud_hub.signing.ceremony import sign_all
from cloud_hub.signing.ceremony_file import examine
from cloud_hub.signing.keys import open_key
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import release_files

DRAFT = "/v1/models/digits/draft"


def draft(people: People) -> Metadata[Targets]:
    return Metadata[Targets].from_bytes(people.call("viewer", "GET", DRAFT).content)


def renew_by_ceremony(hub: Hub, people: People) -> None:
    """The approvers sign the role anew at a ceremony: the base of any open draft is gone then."""
    file = begin(hub.paths, lambda changes, _published: changes.renew(["digits"]))
    signers = [open_key(people.keys / "approvers", name) for name in ("alice", "carol")]
    publish_ceremony(hub.paths, examine(sign_all(file, signers)), "renew")


def audit(people: People) -> str:
    return people.call("auditor", "GET", "/v1/audit/export").text


def test_a_new_base_voids_the_signatures_and_the_draft_is_made_anew(people: People, hub: Hub) -> None:
    people.upload(release_files())
    assert people.submit().is_success
    old = draft(people)
    assert people.sign("alice").is_success
    renew_by_ceremony(hub, people)
    new = draft(people)
    assert (old.signed.version, new.signed.version) == (2, 3)
    assert new.signatures == {}
    assert new.signed.targets == old.signed.targets
    assert people.ok("viewer", "GET", "/v1/releases/digits/1")["signatures"] == []
    signature = open_key(people.keys / "approvers", "bob").sign(old.signed_bytes)
    body = {"keyid": signature.keyid, "sig": signature.signature, "version": 2}
    late = people.call("approver", "POST", f"{DRAFT}/signatures", json=body)
    assert late.status_code == 409
    assert "look at it and sign again" in late.text
    assert '"draft-void"' in audit(people)
    assert not people.sign("bob").json()["published"]
    assert people.sign("alice").json()["published"]
    assert people.ok("viewer", "GET", "/v1/releases/digits/1")["release"]["state"] == "published"


def test_the_database_takes_no_second_draft_of_a_model(people: People, hub: Hub) -> None:
    people.ok("operator", "POST", DRAFT, json={})
    with pytest.raises(IntegrityError):
        hub.database.write(
            lambda session: session.execute(
                OpenDraft.__table__.insert().values(  # type: ignore[attr-defined]
                    model="digits",
                    kind="release",
                    release=1,
                    document=b"",
                    role_version=2,
                    opened=0.0,
                    opened_by="x",
                )
            )
        )
    people.upload(release_files())
    second = people.submit()
    assert second.status_code == 409
    assert "the renewal of digits waits for approval; one draft of a model is open at a time" in second.text


def test_the_same_wish_twice_is_one_draft(people: People) -> None:
    people.publish(release_files())
    first = people.ok("operator", "POST", "/v1/releases/digits/1/withdraw")
    assert first["state"] == "published"
    assert people.sign("alice").is_success
    people.ok("approver", "POST", DRAFT, json={"withdraw": 1})
    assert len(draft(people).signatures) == 1
    other = people.call("operator", "POST", DRAFT, json={})
    assert other.status_code == 409


def test_a_withdrawn_release_is_not_rolled_out_and_its_rollouts_stop(people: People, hub: Hub) -> None:
    people.publish(release_files())
    people.enrol("cam-1")
    rollout = people.ok("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1})["id"]
    people.ok("operator", "POST", "/v1/releases/digits/1/withdraw")
    assert people.sign("bob").json()["kind"] == "withdrawal"
    assert people.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]["status"] == "running"
    assert people.sign("carol").json()["published"]
    state = people.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    assert state["status"] == "aborted"
    assert state["reason"] == "aborted by the hub: the approvers have withdrawn digits 1"
    assert people.ok("viewer", "GET", "/v1/releases/digits/1")["release"]["state"] == "withdrawn"
    assert hub.repository.targets("digits") == {}
    again = people.call("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1})
    assert again.status_code == 409
    assert "digits 1 is withdrawn; only a published release is rolled out" in again.text
    assert '"withdraw"' in audit(people)
    page = people.call("viewer", "GET", f"/?token={people.tokens['viewer']}").text
    assert "withdrawn" in page


def test_nothing_is_rolled_back_to_a_withdrawn_release(people: People, hub: Hub) -> None:
    people.publish(release_files())
    people.publish(release_files(release=2), 2)
    people.enrol("cam-1")
    with_one = CommittedRelease(device="cam-1", model="digits", release=1, deployment="d0", at=1.0)
    hub.database.write(lambda session: session.add(with_one))
    rollout = people.ok("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 2})["id"]
    people.ok("operator", "POST", "/v1/releases/digits/1/withdraw")
    people.sign("alice")
    assert people.sign("bob").json()["published"]
    state = people.ok("operator", "POST", f"/v1/rollouts/{rollout}/rollback")["state"]
    assert state["status"] == "rolled-back"
    assert "cam-1: digits 1, which it had before, was withdrawn" in state["reason"]
    (desired,) = people.ok("viewer", "GET", "/v1/devices/cam-1")["desired"]
    assert desired["release"] == 2


def test_approvers_renew_a_role_without_a_release(people: People, hub: Hub, clock: Clock) -> None:
    people.publish(release_files())
    before = hub.repository.targets("digits")
    clock.now += 50 * 86_400
    hub.refresh_timestamp()
    people.ok("approver", "POST", DRAFT, json={})
    assert people.sign("alice").is_success
    assert people.sign("bob").json()["kind"] == "renewal"
    assert hub.repository.targets("digits") == before
    role = Metadata[Targets].from_bytes(hub.repository.published("digits")).signed
    assert (role.expires - datetime.fromtimestamp(clock.now, UTC)).days in (59, 60)


@pytest.mark.parametrize("kind", list(DraftKind))
def test_a_crash_between_publishing_and_writing_it_down(people: People, hub: Hub, kind: DraftKind) -> None:
    """The metadata is out, the database does not say so: the next start finishes it."""
    people.upload(release_files())
    assert people.submit().is_success
    if kind is not DraftKind.RELEASE:
        people.sign("alice")
        people.sign("bob")
        people.ok("operator", "POST", DRAFT, json={"withdraw": 1 if kind is DraftKind.WITHDRAWAL else None})
    document = draft(people)
    for name in ("alice", "carol"):
        document.sign(open_key(people.keys / "approvers", name), append=True)
    hub.repository.publish("digits", document.to_bytes())
    hub.database.write(lambda session: settle(session, hub.drafting, hub.now()))
    assert hub.database.read(lambda session: session.query(OpenDraft).count()) == 0
    state = people.ok("viewer", "GET", "/v1/releases/digits/1")["release"]["state"]
    assert state == ("withdrawn" if kind is DraftKind.WITHDRAWAL else "published")


def test_an_expired_draft_is_made_anew(people: People, hub: Hub, clock: Clock) -> None:
    people.upload(release_files())
    assert people.submit().is_success
    assert people.sign("alice").is_success
    clock.now += 61 * 86_400
    hub.tick()
    assert hub.database.read(lambda session: session.query(Approval).count()) == 0
    assert draft(people).signed.expires > datetime.fromtimestamp(clock.now, UTC)


def test_what_is_not_published_or_not_there(people: People) -> None:
    assert people.call("operator", "POST", DRAFT, json={"withdraw": 7}).status_code == 409
    assert people.call("operator", "POST", "/v1/models/voices/draft", json={}).status_code == 409
    assert people.call("auditor", "POST", DRAFT, json={}).status_code == 403
