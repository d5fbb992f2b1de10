"""Shadow mode from a rollout's wish to the signed document, and from a device's report to the page."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy.orm import Session

from agent.protocol.state import Assignment, Phase, Reason, ShadowFigures, ShadowPolicy
from cloud_hub.cli import build_parser
from cloud_hub.cli.remote import _shadow
from cloud_hub.devices.models import Device
from cloud_hub.hub import Hub
from cloud_hub.rollouts.models import DesiredDocument
from cloud_hub.rollouts.reports import take_report
from tests.contract.protocol.samples import MEASUREMENT
from tests.unit.cloud_hub.hub_world import People, report
from tests.unit.cloud_hub.sample_release import release_files

WISH = {"share": 0.25, "requests": 500, "seconds": 120.5, "maximum_disagreement": 0.02, "tolerance": None}


@pytest.fixture
def fleet(people: People) -> People:
    people.enrol("cam-1")
    people.publish(release_files())
    return people


def start(people: People, **more: Any) -> Any:
    return people.call("operator", "POST", "/v1/rollouts", json={"model": "digits", "release": 1, **more})


def custom(hub: Hub) -> Any:
    document = hub.database.read(lambda session: session.get_one(DesiredDocument, "cam-1").document)
    (target,) = json.loads(document)["signed"]["targets"].values()
    return target["custom"]


def test_the_policy_reaches_the_signed_document_and_reads_back_as_it_was_asked_for(
    hub: Hub, fleet: People
) -> None:
    rollout = start(fleet, shadow=WISH)
    assert rollout.status_code == 201, rollout.text
    assert fleet.ok("viewer", "GET", f"/v1/rollouts/{rollout.json()['id']}")["shadow"] == WISH
    signed = custom(hub)
    # As a device reads it (agent.trust.director): fractions are text, because the signed form has none.
    assert signed["shadow"]["share"] == "0.25"
    order = msgspec.convert(signed, Assignment, strict=False)
    assert order.shadow == ShadowPolicy(share=0.25, requests=500, seconds=120.5, maximum_disagreement=0.02)


def test_who_asks_for_nothing_gets_none(hub: Hub, fleet: People) -> None:
    assert start(fleet).json()["shadow"] is None
    assert custom(hub)["shadow"] is None


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"share": 0}, "shadow.share"),
        ({"share": 1.5}, "shadow.share"),
        ({"requests": 0}, "shadow.requests"),
        ({"tolerance": -1}, "shadow.tolerance"),
        ({"maximum_disagreement": 2}, "shadow.maximum_disagreement"),
        ({"surprise": 1}, "surprise"),
        ({"seconds": 3600}, "is not shorter than a stage may take"),
    ],
)
def test_a_policy_that_is_none_is_refused_by_name(fleet: People, wrong: dict[str, Any], told: str) -> None:
    answer = start(fleet, shadow=wrong)
    assert answer.status_code == 400
    assert told in answer.text


def test_going_back_is_never_compared_first(hub: Hub, fleet: People) -> None:
    first = start(fleet).json()["id"]
    deployment = custom(hub)["deployment"]
    said = report("cam-1", (deployment, 1, Phase.COMMITTED))
    hub.database.write(
        lambda session: take_report(session, said, signing=hub.director_signing, now=hub.now())
    )
    fleet.publish(release_files(2), 2)
    second = start(fleet, release=2, shadow=WISH).json()["id"]
    assert second != first
    assert custom(hub)["shadow"] is not None
    fleet.ok("operator", "POST", f"/v1/rollouts/{second}/rollback")
    assert custom(hub)["shadow"] is None


def test_the_page_says_how_far_it_is_and_what_was_seen(hub: Hub, fleet: People) -> None:
    start(fleet, shadow=WISH)
    state = report("cam-1", (custom(hub)["deployment"], 1, Phase.PROBING))
    seen = ShadowFigures(
        requests=200, rows=200, disagreed=3, text="200 of 200 requests, 1.5 % disagree in 60 s"
    )
    waiting = Reason(code="shadowing", text="shadowing: 37 of 500 requests, 1.2 % disagree")
    (deployment,) = state.deployments
    deployment = replace(deployment, waiting_for=waiting, measurement=replace(MEASUREMENT, shadow=seen))
    page = take_and_show(hub, fleet, replace(state, deployments=(deployment,)))
    assert "shadowing: 37 of 500 requests, 1.2 % disagree" in page
    assert "On live requests: 200 of 200 requests, 1.5 % disagree in 60 s" in page


def take_and_show(hub: Hub, fleet: People, state: msgspec.Struct) -> str:
    def put(session: Session) -> None:
        device = session.get_one(Device, "cam-1")
        device.reported, device.reported_at = msgspec.json.encode(state), hub.now()

    hub.database.write(put)
    return str(fleet.http.get("/devices/cam-1", params={"token": fleet.tokens["viewer"]}).text)


@pytest.mark.parametrize(
    ("flags", "wish"),
    [
        ([], None),
        (["--shadow"], {}),
        (["--shadow-share", "0.1", "--shadow-tolerance", "0"], {"share": 0.1, "tolerance": 0.0}),
        (
            ["--shadow-requests", "5", "--shadow-seconds", "9", "--shadow-maximum-disagreement", "0"],
            {"requests": 5, "seconds": 9.0, "maximum_disagreement": 0.0},
        ),
    ],
)
def test_any_flag_of_the_command_asks_for_it(flags: list[str], wish: dict[str, Any] | None) -> None:
    arguments = build_parser().parse_args(["rollout", "start", "digits", "2", "--token-file", "t", *flags])
    assert _shadow(arguments) == wish
