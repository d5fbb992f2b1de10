"""A device without a network whose agent is killed at any moment after a stick was put in: it ends, and serves."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.cli.client import ask
from agent.protocol.control import ControlRequest
from agent.protocol.state import FINAL_PHASES
from tests.acceptance.processes import wait_for
from tests.integration.bundles.places import SECONDS, Office, hand_in, offered
from tests.support.counts import count
from tests.support.fleet import answered, deployment, start

NAME = "till-1"
DELAYS = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]
"""Seconds from the moment at which the agent has the file: checking, copying, fetching, probing, probation."""


@pytest.fixture(scope="module")
def office(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("bundles-killed"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        made.bench(NAME)
        made.agents[0].service.stop()
        shutil.copytree(made.agents[0].folder / "state", made.folder / "as-enrolled")
        yield made
    finally:
        made.stop()


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_costs_at_most_a_second_try(
    office: Office, request: pytest.FixtureRequest
) -> None:
    agent = office.agents[0]
    ends: dict[float, str] = {}
    again = 0
    for delay in DELAYS:
        _start_as_enrolled(office)
        rollout = office.start_rollout(1, devices=[NAME], allowed_failures=9)
        stick = office.export("--device", NAME, "--complete")
        wanted = office.client("victor").get(f"/v1/devices/{NAME}")["desired"][0]["deployment"]
        _hand_in_and_kill(office, stick, delay)
        start(agent)
        report = offered(agent)
        if report is None or report.stage != "taken" or wanted not in {e.deployment for e in report.orders}:
            again += 1
            assert hand_in(agent, stick).stage == "taken"
        stick.unlink()
        reached = partial(_ended, office, wanted)
        ends[delay] = wait_for(f"{wanted} to end", reached, seconds=SECONDS, every=0.1)
        if ends[delay] == "committed":
            wait_for("it to answer", lambda: answered(agent) is not None, seconds=SECONDS)
        office.client("olga").post(f"/v1/rollouts/{rollout}/abort")
        agent.service.stop()
    assert set(ends.values()) <= {"committed", "rolled-back"}, ends
    found = Counter(ends.values())
    assert found["committed"] > 0, ends
    committed, rolled_back = found["committed"], found["rolled-back"]
    count(
        request,
        "bundle kill sweep",
        points=len(ends),
        again=again,
        committed=committed,
        rolled_back=rolled_back,
    )


def _start_as_enrolled(office: Office) -> None:
    """A device that has never had a release: so each try really installs."""
    agent = office.agents[0]
    shutil.rmtree(agent.folder / "state")
    shutil.copytree(office.folder / "as-enrolled", agent.folder / "state")
    start(agent)


def _hand_in_and_kill(office: Office, stick: Path, delay: float) -> None:
    agent = office.agents[0]
    descriptor = os.open(stick, os.O_RDONLY)
    ask(str(agent.socket), ControlRequest(method="bundle-install"), descriptor)
    os.close(descriptor)
    until = time.monotonic() + delay
    while time.monotonic() < until:
        time.sleep(0.005)
    agent.service.kill()


def _ended(office: Office, wanted: str) -> str | None:
    agent = office.agents[0]
    agent.service.require_alive()
    answered(agent)
    report = deployment(agent)
    if report is None or report.deployment != wanted or report.phase not in FINAL_PHASES:
        return None
    return report.phase.value
