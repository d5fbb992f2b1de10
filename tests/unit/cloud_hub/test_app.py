import pytest

from agent.protocol.state import Phase, Reason
from cloud_hub.hub import Hub
from cloud_hub.rollouts.models import DesiredDocument
from cloud_hub.rollouts.reports import take_report
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People, assignments, csr, report
from tests.unit.cloud_hub.sample_release import release_files


def test_no_token_is_401_and_the_wrong_role_403(people: People) -> None:
    assert people.call(None, "GET", "/v1/devices").status_code == 401
    refused = people.call("viewer", "POST", "/v1/enrolment-tokens", json={})
    assert refused.status_code == 403
    assert refused.headers["content-type"] == "application/problem+json"
    assert "operator" in refused.json()["detail"]


def test_an_enrolment_token_works_once_and_for_its_device_only(people: People) -> None:
    token = people.ok("operator", "POST", "/v1/enrolment-tokens", json={"device": "cam-1"})["token"]
    body = {"token": token, "device": "cam-2", "hardware_class": "x86-64", "csr": csr("cam-2")}
    assert "is for cam-1" in people.http.post("/v1/enrol", json=body).json()["detail"]
    body |= {"device": "cam-1", "csr": csr("cam-9")}
    assert "common name" in people.http.post("/v1/enrol", json=body).json()["detail"]
    body["csr"] = csr("cam-1")
    answer = people.http.post("/v1/enrol", json=body)
    assert answer.status_code == 201
    assert answer.json()["minimum_versions"]["digits"] == 1
    assert "works once" in people.http.post("/v1/enrol", json=body).json()["detail"]


def test_a_release_is_published_by_the_second_signature_and_not_by_its_author(people: People) -> None:
    people.upload(release_files())
    assert people.submit().json()["state"] == "submitted"
    first = people.sign("alice")
    assert (first.json()["signed_by"], first.json()["published"]) == (["alice"], False)
    assert people.sign("alice").json()["published"] is False
    assert people.call("author", "GET", "/v1/releases/digits/1").json()["release"]["state"] == "submitted"
    assert people.sign("bob").json()["published"] is True
    shown = people.ok("viewer", "GET", "/v1/releases/digits/1")
    assert [signature["approver"] for signature in shown["signatures"]] == ["alice", "bob"]
    again = people.call("author", "PUT", "/v1/releases/digits/1/files/card.md", content=b"x")
    assert again.status_code == 409


def test_the_author_cannot_approve(people: People) -> None:
    people.upload(release_files(), who="admin")
    assert people.submit(who="admin").is_success
    refused = people.sign("alice", who="admin")
    assert refused.status_code == 403
    assert "author" in refused.json()["detail"]


def test_a_signature_by_a_stranger_is_refused(people: People) -> None:
    people.upload(release_files())
    people.submit()
    body = {"keyid": "ab" * 32, "sig": "00" * 64, "version": 2}
    refused = people.call("approver", "POST", "/v1/models/digits/draft/signatures", json=body)
    assert refused.status_code == 403


def test_one_draft_of_a_model_at_a_time_and_withdrawal_frees_it(people: People) -> None:
    people.upload(release_files())
    people.submit()
    people.upload(release_files(2), 2)
    assert people.submit(2).status_code == 409
    assert people.ok("author", "POST", "/v1/releases/digits/1/withdraw")["state"] == "withdrawn"
    assert people.submit(2).is_success


def test_a_rollout_needs_a_published_release(people: People) -> None:
    people.upload(release_files())
    people.submit()
    refused = people.call("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1})
    assert refused.status_code == 409


@pytest.fixture
def fleet(people: People) -> People:
    """Two devices, release 1 published."""
    for device in ("cam-1", "cam-2"):
        people.enrol(device)
    people.publish(release_files())
    return people


def document(hub: Hub, device: str) -> tuple[int, dict[str, str]]:
    def read(session: object) -> tuple[int, dict[str, str]]:
        row = session.get(DesiredDocument, device)  # type: ignore[attr-defined]  # a session
        return (row.version, assignments(row.document)) if row else (0, {})

    return hub.database.read(read)


def say(hub: Hub, device: str, release: int, phase: Phase) -> None:
    """The device reports the deployment that its document asks for."""
    (deployment,) = document(hub, device)[1].values()
    state = report(device, (deployment, release, phase))
    hub.database.write(
        lambda session: take_report(session, state, signing=hub.director_signing, now=hub.now())
    )


def start(fleet: People, release: int = 1) -> int:
    body = {"model": "digits", "release": release, "stages": [{"count": 1}, {"percent": 100}]}
    return int(fleet.ok("operator", "POST", "/v1/rollouts", json=body)["id"])


def test_a_rollout_goes_stage_by_stage_and_completes(fleet: People, hub: Hub) -> None:
    rollout = start(fleet)
    assert document(hub, "cam-1")[0] == 1
    assert document(hub, "cam-2") == (0, {})
    say(hub, "cam-1", 1, Phase.PROBATION)
    assert document(hub, "cam-2") == (0, {})
    say(hub, "cam-1", 1, Phase.COMMITTED)
    assert list(document(hub, "cam-2")[1]) == ["models/digits/1/manifest.json"]
    say(hub, "cam-2", 1, Phase.COMMITTED)
    state = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    assert (state["status"], state["reason"]) == ("completed", "2 of 2 devices committed")


def test_a_refusing_canary_pauses_the_rollout_and_rollback_names_the_release_before(
    fleet: People, hub: Hub
) -> None:
    start(fleet)
    for device in ("cam-1", "cam-2"):
        say(hub, device, 1, Phase.COMMITTED)
    fleet.publish(release_files(2), 2)
    rollout = start(fleet, 2)
    say(hub, "cam-1", 2, Phase.REFUSED)
    shown = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")
    assert shown["state"]["status"] == "paused"
    assert "cam-1" in shown["state"]["reason"]
    assert "p99 12.0 ms over its budget" in shown["state"]["reason"]
    assert list(document(hub, "cam-2")[1]) == ["models/digits/1/manifest.json"]
    findings = fleet.ok("viewer", "GET", "/v1/fleet")["findings"]
    assert findings[0]["severity"] == "error"
    assert (
        fleet.ok("operator", "POST", f"/v1/rollouts/{rollout}/rollback")["state"]["status"] == "rolling-back"
    )
    version, assigned = document(hub, "cam-1")
    assert (version, list(assigned)) == (3, ["models/digits/1/manifest.json"])
    say(hub, "cam-1", 1, Phase.COMMITTED)
    assert fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]["status"] == "rolled-back"
    assert fleet.call("operator", "POST", f"/v1/rollouts/{rollout}/resume").status_code == 409


def test_rolling_back_a_first_release_takes_the_model_away(fleet: People, hub: Hub) -> None:
    rollout = start(fleet)
    answer = fleet.ok("operator", "POST", f"/v1/rollouts/{rollout}/rollback")
    assert answer["state"]["status"] == "rolled-back"
    assert document(hub, "cam-1") == (2, {})


def test_a_silent_device_pauses_the_rollout_at_the_timeout(fleet: People, hub: Hub, clock: Clock) -> None:
    rollout = start(fleet)
    clock.now += 3601
    hub.tick()
    state = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    assert state["status"] == "paused"
    assert "cam-1" in state["reason"]


def test_a_document_is_signed_again_at_half_of_its_life(fleet: People, hub: Hub, clock: Clock) -> None:
    start(fleet)
    clock.now += 16 * 86_400
    hub.tick()
    assert document(hub, "cam-1")[0] == 2


def test_a_refusal_of_the_whole_document_fails_the_device(fleet: People, hub: Hub, clock: Clock) -> None:
    from cloud_hub.devices import service
    from tests.unit.cloud_hub.hub_world import report_bytes

    rollout = start(fleet)
    clock.now += 10
    state = report(
        "cam-1", refusal=Reason(code="bad-signature", text="digits is not signed by its approvers")
    )
    hub.database.write(
        lambda session: service.take_report(
            session, service.get_device(session, "cam-1"), state, report_bytes(state), hub.now()
        )
    )
    hub.tick()
    shown = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    assert shown["status"] == "paused"
    assert "not signed by its approvers" in shown["reason"]


def test_every_deed_is_in_the_audit_log_and_the_export_verifies(fleet: People) -> None:
    from cloud_hub.audit.chain import verify

    start(fleet)
    assert fleet.call("viewer", "GET", "/v1/audit/export").status_code == 403
    lines = fleet.call("auditor", "GET", "/v1/audit/export").content.splitlines()
    assert verify(lines).problem is None
    actions = [entry["action"] for entry in fleet.ok("auditor", "GET", "/v1/audit")]
    assert {"ceremony", "enrol", "submit", "approve", "publish", "rollout-start"} <= set(actions)


def test_a_file_over_the_limit_is_413_and_leaves_nothing(people: People) -> None:
    big = people.http.put(
        "/v1/releases/digits/1/files/big.bin",
        content=b"",
        headers={
            "Authorization": f"Bearer {people.tokens['author']}",
            "Content-Length": str(513 * 1024 * 1024),
        },
    )
    assert big.status_code == 413
    assert big.headers["content-type"] == "application/problem+json"
    assert people.ok("viewer", "GET", "/v1/releases") == []
