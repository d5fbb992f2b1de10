"""A device that the hub holds: what its signed document says, who is told, and how it ends."""

import json
from argparse import Namespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from securesystemslib.signer import SSlibKey
from sqlalchemy.orm import Session
from tuf.api.metadata import Metadata, Targets

from agent.protocol.codec import decode_json
from agent.protocol.state import Assignment, DesiredState, Phase, Reason, ServingReport
from cloud_hub.cli import remote
from cloud_hub.devices.models import Device
from cloud_hub.errors import InputError
from cloud_hub.hub import Hub
from cloud_hub.registry.models import Release
from cloud_hub.rollouts.documents import desired_payload
from cloud_hub.signing.director import DEVICE_FIELD
from tests.unit.cloud_hub.conftest import RecordingPublisher
from tests.unit.cloud_hub.hub_world import People, report
from tests.unit.cloud_hub.sample_release import release_files

REASON = "the line is being audited"
WISH = {"model": "digits", "release": 1, "stage_timeout_seconds": 600}


@pytest.fixture
def fleet(people: People) -> People:
    for name in ("cam-1", "cam-2"):
        people.enrol(name)
    people.publish(release_files())
    return people


def hold(people: People, name: str = "cam-1", **body: str) -> Any:
    return people.ok("operator", "POST", f"/v1/devices/{name}/hold", json=body)


def resume(people: People, name: str = "cam-1") -> Any:
    return people.ok("operator", "POST", f"/v1/devices/{name}/resume")


def start(people: People) -> int:
    return int(people.ok("operator", "POST", "/v1/rollouts", json=WISH)["id"])


def order(hub: Hub, device: str) -> tuple[int, Assignment]:
    """Version and the one assignment of what is published for a device, its signature verified."""
    payload = hub.database.read(lambda session: desired_payload(session, device))
    assert payload is not None
    document = Metadata[Targets].from_bytes(decode_json(payload, DesiredState).director.encode())
    key = hub.director_signing.director._signer.public_key
    assert isinstance(key, SSlibKey)
    key.verify_signature(document.signatures[key.keyid], document.signed_bytes)
    assert document.signed.unrecognized_fields[DEVICE_FIELD] == device
    (target,) = document.signed.targets.values()
    return document.signed.version, msgspec.convert(target.custom, Assignment)


def published(hub: Hub) -> list[str]:
    assert isinstance(hub.publisher, RecordingPublisher)
    return hub.publisher.devices


def say(hub: Hub, device: str, deployment: str, phase: Phase, waiting_for: Reason | None) -> None:
    state = report(device, (deployment, 1, phase))
    (only,) = state.deployments
    state = replace(state, deployments=(replace(only, waiting_for=waiting_for, reason=None),))

    def put(session: Session) -> None:
        row = session.get_one(Device, device)
        row.reported, row.reported_at, row.online = msgspec.json.encode(state), hub.now(), True

    hub.database.write(put)


def test_its_document_is_signed_anew_with_the_hold_and_published_and_so_is_the_end(
    fleet: People, hub: Hub
) -> None:
    start(fleet)
    version, before = order(hub, "cam-1")
    other = order(hub, "cam-2")
    assert not before.hold
    published(hub).clear()
    answer = hold(fleet, reason=REASON)
    assert answer["changed"]
    assert order(hub, "cam-1") == (version + 1, replace(before, hold=True))
    assert published(hub) == ["cam-1"]
    answer = resume(fleet)
    assert answer["changed"]
    assert answer["device"]["hold"] is None
    assert order(hub, "cam-1") == (version + 2, before)
    assert published(hub) == ["cam-1", "cam-1"]
    assert order(hub, "cam-2") == other


def test_what_is_assigned_and_renewed_while_it_is_held_is_held_too(fleet: People, hub: Hub) -> None:
    hold(fleet)
    start(fleet)
    version, first = order(hub, "cam-1")
    assert (version, first.hold) == (1, True)
    assert not order(hub, "cam-2")[1].hold
    fleet.enrol("cam-1")  # a new disk in an old place: the hold was about the place
    life = hub.director_signing.days * 86_400
    renewed = hub.now() + 0.6 * life
    hub.now = lambda: renewed
    hub.tick()
    assert order(hub, "cam-1") == (2, first)


def test_holding_and_resuming_twice_change_nothing_and_say_so(fleet: People, hub: Hub) -> None:
    start(fleet)
    first = hold(fleet, reason=REASON)["device"]["hold"]
    version, _ = order(hub, "cam-1")
    published(hub).clear()
    again = hold(fleet, reason="something else")
    assert not again["changed"]
    assert again["device"]["hold"] == first
    assert again["text"] == f"cam-1 is {first['text']} already; nothing was changed"
    assert (order(hub, "cam-1")[0], published(hub)) == (version, [])
    resume(fleet)
    again = resume(fleet)
    assert (again["changed"], again["text"]) == (
        False,
        "cam-1 is not held by the hub; nothing was changed",
    )
    assert order(hub, "cam-1")[0] == version + 1
    actions = [entry["action"] for entry in audit(fleet)]
    assert (actions.count("hold-device"), actions.count("resume-device")) == (1, 1)


def audit(people: People) -> list[dict[str, Any]]:
    lines = people.call("auditor", "GET", "/v1/audit/export").text.splitlines()
    return [json.loads(line) for line in lines]


def test_who_did_it_and_why_is_audited(fleet: People) -> None:
    text = hold(fleet, reason=REASON)["device"]["hold"]["text"]
    resume(fleet)
    entries = {entry["action"]: entry for entry in audit(fleet)}
    held, resumed = entries["hold-device"], entries["resume-device"]
    assert (held["actor"], held["subject"], held["details"]) == (
        "the-operator",
        "cam-1",
        {"reason": REASON},
    )
    assert (resumed["actor"], resumed["subject"], resumed["details"]) == (
        "the-operator",
        "cam-1",
        {"was": text},
    )


def test_it_is_shown_with_since_when_by_whom_and_why(fleet: People) -> None:
    text = hold(fleet, reason=REASON)["device"]["hold"]["text"]
    assert text.startswith("held by the hub since 20")
    assert text.endswith(f" UTC by the-operator: {REASON}")
    findings = fleet.ok("viewer", "GET", "/v1/fleet")["findings"]
    (found,) = [each for each in findings if each["what"].startswith("Held by the hub since")]
    assert (found["where"], found["to_do"].rpartition(": ")[2]) == (
        "cam-1",
        "edgeward-hub devices resume cam-1",
    )
    assert text in fleet.http.get("/", params={"token": fleet.tokens["viewer"]}).text
    resume(fleet)
    assert "held by the hub" not in fleet.http.get("/", params={"token": fleet.tokens["viewer"]}).text


def test_a_rollout_waits_for_it_and_says_who_holds_it(fleet: People, hub: Hub) -> None:
    text = hold(fleet, reason=REASON)["device"]["hold"]["text"]
    rollout = start(fleet)

    def waiting() -> Any:
        return fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["waiting"]

    assert waiting() == {"cam-1": text}  # before the device has said anything
    deployment = order(hub, "cam-1")[1].deployment
    say(hub, "cam-1", deployment, Phase.FETCHING, Reason(code="held-by-hub", text="the hub asks"))
    assert waiting() == {"cam-1": text}
    say(hub, "cam-1", deployment, Phase.PROBATION, Reason(code="on-probation", text="3 of 10 requests"))
    assert waiting() == {"cam-1": "3 of 10 requests"}
    say(hub, "cam-1", deployment, Phase.PROBING, None)
    assert waiting() == {}


@pytest.mark.parametrize("held", [True, False])
def test_a_held_device_that_serves_a_withdrawn_release_is_named(
    fleet: People, hub: Hub, *, held: bool
) -> None:
    if held:
        hold(fleet)
    serving = ServingReport(
        model="digits",
        release=1,
        variant="onnx-int8",
        artifact="a" * 64,
        ready=True,
        requests=0,
        failures=0,
        p95_ms=None,
        p99_ms=None,
    )

    def put(session: Session) -> None:
        session.get_one(Release, ("digits", 1)).state = "withdrawn"
        for name in ("cam-1", "cam-2"):
            state = replace(report(name), serving=(serving,))
            session.get_one(Device, name).reported = msgspec.json.encode(state)

    hub.database.write(put)
    findings = fleet.ok("viewer", "GET", "/v1/fleet")["findings"]
    (found,) = [each for each in findings if "have withdrawn it" in each["what"]]
    assert found["to_do"].endswith("Resume those that you hold: cam-1.") is held
    assert "cam-2" not in found["to_do"]


@pytest.mark.parametrize("action", ["hold", "resume"])
def test_who_may_not_and_what_is_not_there(fleet: People, action: str) -> None:
    def tried(who: str, name: str, body: object) -> tuple[int, str]:
        parts = {"json": body} if action == "hold" else {}
        answer = fleet.call(who, "POST", f"/v1/devices/{name}/{action}", **parts)
        return answer.status_code, answer.json()["detail"]

    for who in ("viewer", "author", "approver", "auditor"):
        assert tried(who, "cam-1", {})[0] == 403
    assert tried("operator", "cam-9", {}) == (404, "there is no device 'cam-9'")
    fleet.ok("operator", "POST", "/v1/devices/cam-1/revoke", json={"reason": "stolen"})
    status, said = tried("operator", "cam-1", {})
    assert status == 409
    assert said == "the identity of device cam-1 was revoked, so it takes no orders: stolen"
    if action == "hold":
        assert tried("operator", "cam-2", {"reason": ""})[0] == 400
        assert tried("operator", "cam-2", {"why": "x"})[0] == 400


class OverTheApi:
    """The command's hub client, by the application without a socket."""

    def __init__(self, people: People) -> None:
        self._people = people

    def get(self, path: str) -> Any:
        return self._people.ok("operator", "GET", path)

    def post(self, path: str, body: object | None = None) -> Any:
        return self._people.ok("operator", "POST", path, **({} if body is None else {"json": body}))


def test_the_command(
    fleet: People, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(remote, "HubClient", lambda _arguments: OverTheApi(fleet))

    def run(action: str, name: str | None = None, reason: str | None = None) -> str:
        remote._devices(Namespace(action=action, name=name, reason=reason, crl=None, json=False))
        return capsys.readouterr().out

    assert run("hold", "cam-1", REASON).startswith("cam-1 is held: ")
    first, second = run("list").splitlines()
    assert "; held by the hub since 20" in first
    assert first.endswith(f"by the-operator: {REASON}")
    assert "held" not in second
    assert run("hold", "cam-1").endswith("already; nothing was changed.\n")
    assert run("resume", "cam-1") == "cam-1 is resumed: it goes on with what is assigned to it.\n"
    assert "held" not in run("list")
    for action in ("hold", "resume"):
        with pytest.raises(InputError, match=f"name the device to {action}"):
            run(action)
    with pytest.raises(InputError, match="--reason: resume takes none"):
        run("resume", "cam-1", REASON)
