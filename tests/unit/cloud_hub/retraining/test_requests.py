"""A fleet drifts: one request with frozen evidence, acknowledged by a person, ended by calm or by a newer release."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from agent.drift.merge import merge_counts
from agent.drift.reference import decode_reference
from agent.drift.verdict import judge
from agent.protocol.drift import DriftReference
from cloud_hub.cli import main
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.hub import Hub
from cloud_hub.registry.models import Release
from cloud_hub.retraining.evidence import Evidence
from tests.support.drift_windows import store, window
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People
from tests.unit.cloud_hub.sample_release import reference, release_files

HOUR = 3600.0
DEVICES = 8


@pytest.fixture
def signed() -> DriftReference:
    return decode_reference(reference())


class Story:
    """Hours pass; each device sends a window every hour."""

    def __init__(self, hub: Hub, clock: Clock, signed: DriftReference) -> None:
        self.hub, self.clock, self.signed = hub, clock, signed
        self.hour = 0
        self.release = 1

    def hours(self, count: int, drifting: int) -> None:
        for _ in range(count):
            self.hour += 1
            self.clock.now += HOUR
            for number in range(DEVICES):
                self._send(f"cam-{number}", shift=5 if number < drifting else 0)
            self.hub.keep_telemetry()

    def _send(self, device: str, shift: int) -> None:
        now = self.clock.now
        sent = window(self.signed, now, rows=600, seed=self.hour, release=self.release)
        if shift:  # a uniform reference: its rows all in the lower half
            ((name, counts),) = sent.signals.items()
            moved = msgspec.structs.replace(counts, counts=(0, 300, 300, *(0,) * (len(counts.counts) - 3)))
            verdict = judge(self.signed, {name: moved}, 600).verdict
            sent = msgspec.structs.replace(sent, signals={name: moved}, verdict=verdict)
        self.hub.database.write(lambda session: store(session, device, {self.hour: sent}, now))


@pytest.fixture
def story(people: People, hub: Hub, clock: Clock, signed: DriftReference) -> Story:
    people.publish(release_files())
    people.ok(
        "operator", "PUT", "/v1/retraining/policies/digits", json={"hours": 3, "calm_hours": 2, "share": 0.3}
    )
    return Story(hub, clock, signed)


def test_one_request_while_its_cause_lasts_with_evidence_that_stands_for_itself(
    people: People, story: Story, signed: DriftReference
) -> None:
    story.hours(3, drifting=6)
    assert people.ok("viewer", "GET", "/v1/retraining") == []
    story.hours(1, drifting=6)
    (request,) = people.ok("viewer", "GET", "/v1/retraining")
    assert (request["model"], request["release"], request["cause"], request["state"]) == (
        "digits",
        1,
        "drift",
        "open",
    )
    assert "6 of 8 devices" in request["text"]
    story.hours(20, drifting=6)
    (same,) = people.ok("viewer", "GET", "/v1/retraining")
    assert (same["id"], len(same["evidence"])) == (request["id"], 1)
    story.hours(5, drifting=7)
    (same,) = people.ok("viewer", "GET", "/v1/retraining")
    assert [each["number"] for each in same["evidence"]] == [1, 2]

    document = people.call("viewer", "GET", f"/v1/retraining/{request['id']}/evidence/1").content
    digest = hashlib.sha256(document).hexdigest()
    assert digest == same["evidence"][0]["sha256"]
    audit = people.ok("auditor", "GET", "/v1/audit")
    assert any(entry["details"].get("evidence_sha256") == digest for entry in audit)
    evidence = msgspec.json.decode(document, type=Evidence)
    assert evidence.reference_sha256 == hashlib.sha256(reference()).hexdigest()
    assert (evidence.affected, evidence.devices) == (6, DEVICES)
    assert {(each.device, each.epoch, each.sequence) for each in evidence.windows} == {
        (f"cam-{number}", "e1", 4) for number in range(DEVICES)
    }
    assert evidence.robust is not None
    again = judge(signed, evidence.counts, evidence.robust.rows)
    assert again.verdict == evidence.robust
    assert (
        merge_counts([evidence.raw_counts["image.mean"]]).counts == evidence.raw_counts["image.mean"].counts
    )
    assert sum(evidence.raw_counts["image.mean"].counts) == evidence.rows == DEVICES * 600


def test_a_person_acknowledges_it_once(people: People, story: Story) -> None:
    story.hours(4, drifting=6)
    (request,) = people.ok("viewer", "GET", "/v1/retraining")
    path = f"/v1/retraining/{request['id']}/acknowledge"
    assert people.call("viewer", "POST", path, json={}).status_code == 403
    taken = people.ok("author", "POST", path, json={"note": "ticket 12"})
    assert (taken["state"], taken["acknowledged_by"], taken["note"]) == (
        "acknowledged",
        "the-author",
        "ticket 12",
    )
    again = people.call("operator", "POST", path, json={})
    assert again.status_code == 409
    assert "the-author" in again.json()["detail"]
    assert people.call("operator", "POST", "/v1/retraining/99/acknowledge", json={}).status_code == 404
    story.hours(4, drifting=6)
    (same,) = people.ok("viewer", "GET", "/v1/retraining")
    assert same["state"] == "acknowledged"


def test_it_ends_when_the_fleet_is_calm_and_opens_anew_when_it_is_not(people: People, story: Story) -> None:
    story.hours(4, drifting=6)
    story.hours(2, drifting=0)
    assert people.ok("viewer", "GET", "/v1/retraining")[0]["state"] == "open"
    story.hours(1, drifting=0)
    (ended,) = people.ok("viewer", "GET", "/v1/retraining")
    assert (ended["state"], ended["closed_by"]) == ("closed", "hub")
    story.hours(4, drifting=6)
    first, second = people.ok("viewer", "GET", "/v1/retraining")
    assert (first["state"], second["id"]) == ("open", ended["id"])


def test_it_ends_when_most_devices_have_committed_a_newer_release(
    people: People, story: Story, hub: Hub
) -> None:
    story.hours(4, drifting=6)

    def commit(device: str, release: int) -> None:
        hub.database.write(
            lambda session: session.add(
                CommittedRelease(device=device, model="digits", release=release, deployment="d", at=0.0)
            )
        )

    for number in range(4):
        commit(f"cam-{number}", 1)
    for number in range(4, 8):
        commit(f"cam-{number}", 2)
    story.hours(1, drifting=6)
    assert people.ok("viewer", "GET", "/v1/retraining")[0]["state"] == "open"
    commit("cam-9", 2)
    story.hours(1, drifting=6)
    (ended,) = people.ok("viewer", "GET", "/v1/retraining")
    assert "5 of 9 devices have committed a newer release" in ended["closed_reason"]


def test_it_ends_when_the_fleet_has_left_the_release(
    people: People, story: Story, hub: Hub, clock: Clock
) -> None:
    story.hours(4, drifting=6)
    clock.now += 25 * HOUR
    hub.keep_telemetry()
    assert people.ok("viewer", "GET", "/v1/retraining")[0]["state"] == "open"  # silence is no end
    second = Release(model="digits", release=2, state="published", author="ci", created=clock.now)
    hub.database.write(lambda session: session.add(second))
    story.release = 2
    story.hours(2, drifting=0)
    (ended,) = people.ok("viewer", "GET", "/v1/retraining")
    assert ended["state"] == "closed"
    assert "most serve digits 2" in ended["closed_reason"]


def test_policies_are_checked_kept_and_taken_away(people: People) -> None:
    path = "/v1/retraining/policies/digits"
    wrong = people.call("operator", "PUT", path, json={"share": 2})
    assert wrong.status_code == 400
    assert "share" in wrong.text
    assert people.call("viewer", "PUT", path, json={}).status_code == 403
    own = people.ok("operator", "PUT", path, json={"signals": ["brightness"], "accuracy_loss": None})
    assert (own["set_by"], own["policy"]["signals"]) == ("the-operator", ["brightness"])
    assert people.ok("viewer", "GET", path) == own
    assert people.ok("operator", "DELETE", path)["set_by"] is None


def test_the_command_line(
    people: People,
    story: Story,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    story.hours(4, drifting=6)
    token = tmp_path / "token"
    token.write_text(people.tokens["operator"])

    class Client:
        def __init__(self, **_settings: object) -> None: ...
        def request(self, method: str, path: str, **parts: object) -> object:
            return people.call("operator", method, path, **parts)

    monkeypatch.setattr("cloud_hub.cli.http.httpx.Client", Client)

    def run(*words: str) -> str:
        assert main([*words, "--token-file", str(token)]) == 0
        return capsys.readouterr().out

    assert "6 of 8 devices" in run("retraining", "list")
    evidence = tmp_path / "evidence.json"
    assert "SHA-256" in run("retraining", "show", "1", "--evidence", str(evidence))
    assert json.loads(evidence.read_bytes())["model"] == "digits"
    assert "acknowledged by the-operator (T-9)" in run("retraining", "acknowledge", "1", "--note", "T-9")
    assert "share = 0.4" in run("retraining", "policy", "digits", "--share", "0.4")
    assert "hours = 3" in run("retraining", "policy", "digits")
    assert "of hub.toml" in run("retraining", "policy", "digits", "--default")
    assert "closed by the-operator: done" in run("retraining", "close", "1", "--reason", "done")
    assert "no notices" in run("notices")
    assert "Nothing was told" in run("webhooks")
