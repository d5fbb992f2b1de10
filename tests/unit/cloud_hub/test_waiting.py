"""A device that waits is not one that failed: the hub says what it waits for, on its pages and when a stage takes too long."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy.orm import Session

from agent.protocol.state import Phase, Reason
from cloud_hub.cli.remote import _print_rollout
from cloud_hub.devices.models import Device
from cloud_hub.hub import Hub
from cloud_hub.rollouts.models import DesiredDocument
from cloud_hub.rollouts.passing import tick
from cloud_hub.rollouts.reports import take_report
from tests.unit.cloud_hub.hub_world import People, report
from tests.unit.cloud_hub.sample_release import release_files

WINDOW = "the maintenance window Sat 02:00-04:00 Europe/Berlin opens in 3 h 12 min (Sat 2026-11-28 02:00 CET)"


@pytest.fixture
def fleet(people: People) -> People:
    for name in ("cam-1", "cam-2"):
        people.enrol(name)
    people.publish(release_files())
    return people


def start(people: People) -> int:
    wish = {"model": "digits", "release": 1, "stage_timeout_seconds": 600}
    return int(people.ok("operator", "POST", "/v1/rollouts", json=wish)["id"])


def deployment_of(hub: Hub, device: str) -> str:
    document = hub.database.read(lambda session: session.get_one(DesiredDocument, device).document)
    (target,) = json.loads(document)["signed"]["targets"].values()
    return str(target["custom"]["deployment"])


def say(hub: Hub, device: str, code: str, text: str) -> None:
    """The device reports that its deployment is ready and waits."""
    state = report(device, (deployment_of(hub, device), 1, Phase.READY))
    (deployment,) = state.deployments
    state = replace(state, deployments=(replace(deployment, waiting_for=Reason(code=code, text=text)),))

    def put(session: Session) -> None:
        row = session.get_one(Device, device)
        row.reported, row.reported_at = msgspec.json.encode(state), hub.now()
        take_report(session, state, signing=hub.director_signing, now=hub.now())

    hub.database.write(put)


def pass_time(hub: Hub, seconds: float) -> None:
    hub.database.write(lambda session: tick(session, signing=hub.director_signing, now=hub.now() + seconds))


def test_a_device_that_waits_has_not_failed_and_says_why(hub: Hub, fleet: People) -> None:
    rollout = start(fleet)
    say(hub, "cam-1", "outside-window", WINDOW)
    pass_time(hub, 599)
    seen = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")
    assert seen["state"]["status"] == "running"
    assert [each["outcome"] for each in seen["state"]["devices"]] == [None, None]
    assert seen["waiting"] == {"cam-1": WINDOW}


def test_a_stage_that_takes_too_long_says_who_waits_for_what(hub: Hub, fleet: People) -> None:
    rollout = start(fleet)
    say(hub, "cam-1", "outside-window", WINDOW)
    pass_time(hub, 601)
    state = fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    assert state["status"] == "paused"
    assert state["reason"] == (
        f"paused by itself: no outcome from cam-1 (waits: {WINDOW}), cam-2 within 600 s"
    )
    assert [each["outcome"] for each in state["devices"]] == [None, None]


def test_what_has_ended_waits_for_nothing(hub: Hub, fleet: People) -> None:
    rollout = start(fleet)
    say(hub, "cam-1", "outside-window", WINDOW)
    fleet.ok("operator", "POST", f"/v1/rollouts/{rollout}/abort")
    assert fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["waiting"] == {}


@pytest.mark.parametrize(
    ("code", "severity", "todo"),
    [
        ("needs-operator", "warning", "Somebody at the device accepts it: edgeward accept digits"),
        ("outside-window", "info", "edgeward accept digits --now"),
        ("low-disk", "warning", "Make room on the device"),
        ("something-new", "info", "It goes on by itself"),
    ],
)
def test_the_page_says_what_to_do_about_it(
    hub: Hub, fleet: People, code: str, severity: str, todo: str
) -> None:
    start(fleet)
    say(hub, "cam-1", code, "for a reason")
    findings: list[dict[str, Any]] = fleet.ok("viewer", "GET", "/v1/fleet")["findings"]
    found = next(each for each in findings if each["what"] == "digits 1 waits: for a reason")
    assert (found["severity"], found["where"]) == (severity, "cam-1")
    assert todo in found["to_do"]
    page = fleet.http.get("/", params={"token": fleet.tokens["viewer"]}).text
    assert "digits 1 waits: for a reason" in page
    assert "<small>waits</small>" in page


def test_the_command_shows_it(hub: Hub, fleet: People, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = start(fleet)
    say(hub, "cam-1", "outside-window", WINDOW)
    _print_rollout(fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout}"))
    assert f"cam-1: assigned ({WINDOW})" in capsys.readouterr().out
