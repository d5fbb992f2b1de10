"""A real device whose disk has damaged what it remembers: it serves what is right, and says what is wrong."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent.cli.client import ask
from agent.cli.errors import CliError
from agent.core.model_state import ModelState
from agent.protocol.control import ControlRequest, Method
from agent.protocol.state import Phase
from agent.store.mirrored import MirroredStore
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.store.conftest import (
    ACTIVE,
    NEXT,
    PREVIOUS,
    comes_to_serve,
    events,
    no_artifacts,
    problems,
    scribble,
    serves,
)
from tests.support.own_children import children_running


def state_of(device: AttackedDevice) -> ModelState:
    with MirroredStore(device.config.state / "state.db") as store:
        return msgspec.json.decode(store.values()["model/digits"], type=ModelState)


def active_file(device: AttackedDevice) -> Path:
    active = state_of(device).slots.active
    assert active is not None
    return device.config.state / "artifacts" / "sha256" / active.artifact[:2] / active.artifact


def test_bit_rot_of_what_serves_the_release_before_serves_until_it_is_fetched_again(
    device: AttackedDevice,
) -> None:
    scribble(active_file(device), keep=100_000)
    device.hub.tamper = no_artifacts
    device.start()
    serves(device, PREVIOUS)
    (serving,) = device.status().state.serving
    assert serving.release == PREVIOUS
    assert serving.degraded is not None
    assert serving.degraded.code == "artifact-damaged"
    assert "is missing or damaged on this device; release 1" in serving.degraded.text
    assert "serves until it is fetched again" in serving.degraded.text
    device.hub.tamper = None
    comes_to_serve(device, ACTIVE)
    wait_for("its return to be told", lambda: "release 2 serves again" in told(device), seconds=SECONDS)
    assert device.status().state.serving[0].degraded is None
    device.commits(NEXT)


def told(device: AttackedDevice) -> list[str]:
    return [event.text for event in events(device, "artifact-damaged")]


@pytest.mark.soak
def test_bit_rot_while_it_serves_shows_when_its_runner_is_started_again(device: AttackedDevice) -> None:
    path = active_file(device)
    device.start()
    serves(device, ACTIVE)
    scribble(path)
    device.hub.tamper = no_artifacts
    (runner,) = children_running(device.pid, "agent.runner")
    os.kill(runner.pid, signal.SIGKILL)
    comes_to_serve(device, PREVIOUS)
    device.hub.tamper = None
    comes_to_serve(device, ACTIVE)


def test_a_damaged_telemetry_database_is_set_aside_and_reported(device: AttackedDevice) -> None:
    path = device.config.state / "telemetry.db"
    with closing(sqlite3.connect(path)) as database:
        (epoch,) = database.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    scribble(path)
    since = device.reports()
    device.start()
    serves(device, ACTIVE)
    (started,) = events(device, "agent-started")
    assert started.severity == "warning"
    assert "the telemetry database was damaged" in started.text
    assert (device.config.state / "telemetry.db.damaged").exists()
    report = device.hears(lambda state: state.outbox.epoch != epoch, since)
    assert report.problems == ()
    device.commits(NEXT)


def test_a_telemetry_database_that_breaks_while_it_is_used_is_made_anew(device: AttackedDevice) -> None:
    device.start()
    serves(device, ACTIVE)
    epoch = device.status().state.outbox.epoch
    for name in ("telemetry.db", "telemetry.db-wal"):
        if (device.config.state / name).exists():
            scribble(device.config.state / name)
    methods: tuple[Method, ...] = ("hold", "resume")
    for method in methods:  # something to record
        ask(str(device.config.control_socket), ControlRequest(method=method))

    def anew() -> bool:
        serves(device, ACTIVE)
        return device.status().state.outbox.epoch != epoch

    wait_for("another database", anew, seconds=SECONDS)
    wait_for("the reason to be told", lambda: events(device, "telemetry-database"), seconds=SECONDS)
    (event,) = events(device, "telemetry-database")
    assert "was damaged" in event.text
    assert problems(device) == {}
    device.commits(NEXT)


def test_damaged_state_and_damaged_trust_are_restored_from_their_mirrors(device: AttackedDevice) -> None:
    before, marks = state_of(device), device.trust().marks
    scribble(device.config.state / "state.db")
    scribble(device.config.state / "trust.db")
    device.start()
    serves(device, ACTIVE)
    (started, *_) = events(device, "agent-started")
    assert "state.db was damaged" in started.text
    assert "trust.db was damaged" in started.text
    assert started.text.count("restored from its mirror") == 2
    device.commits(NEXT)
    device.stop()
    after = state_of(device).slots
    assert (after.previous, after.floor) == (before.slots.active, NEXT)
    assert after.committed == (PREVIOUS, ACTIVE, NEXT)
    for mark in marks:
        assert any((each.role, each.keys) == (mark.role, mark.keys) for each in device.trust().marks)


def test_state_that_is_lost_twice_serves_what_was_committed_last_and_changes_nothing(
    device: AttackedDevice,
) -> None:
    for name in ("state.db", "state.db.mirror"):
        scribble(device.config.state / name)
    damaged = (device.config.state / "state.db").read_bytes()
    device.start()
    serves(device, ACTIVE)
    found = problems(device)
    assert set(found) == {"state-damaged"}
    assert "Nothing was changed. Restore one of them" in found["state-damaged"]
    order, deployment = device.order(NEXT)
    device.desire(order)

    def waits() -> str | None:
        reports = device.status().state.deployments
        return next(
            (each.waiting_for.code for each in reports if each.deployment == deployment and each.waiting_for),
            None,
        )

    assert wait_for("it to say why it waits", waits, seconds=SECONDS) == "state-damaged"
    with pytest.raises(CliError, match="resume can't be done now: hold can't be kept"):
        ask(str(device.config.control_socket), ControlRequest(method="resume"))
    serves(device, ACTIVE)
    assert (device.config.state / "state.db").read_bytes() == damaged, "a person decides"
    device.stop()
    for name in ("state.db", "state.db.mirror"):
        (device.config.state / name).unlink()
    device.start()
    report = device.ends(order, deployment)
    assert report.phase is Phase.COMMITTED
    serves(device, NEXT)


def test_trust_that_is_lost_twice_serves_and_takes_no_desired_state(device: AttackedDevice) -> None:
    for name in ("trust.db", "trust.db.mirror"):
        scribble(device.config.state / name)
    device.start()
    serves(device, ACTIVE)
    assert set(problems(device)) == {"trust-damaged"}
    reason = device.refuses(device.order(NEXT)[0])
    assert reason.code == "trust-not-stored"
    assert "enrol this device anew" in reason.text
    serves(device, ACTIVE)
