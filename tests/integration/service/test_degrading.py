"""Degrading on purpose with everything real: what breaks the service level is how long a model really takes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from agent.core.commands import ActivateCandidate, ProbeCandidate, RestorePrevious, ServeActive
from agent.core.events import Activated, ProbePassed
from agent.protocol.state import Reason
from tests.integration.service.committed import ACCURATE, SMALL, Clients, Device
from tests.support.own_children import own_children


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    device = Device(tmp_path)
    await device.start()
    yield device
    await device.stop()


@pytest.fixture
async def clients(device: Device) -> AsyncIterator[Clients]:
    await device.executor.serve(ServeActive(active=device.release))
    clients = Clients(device.server.listeners.unix_path)
    yield clients
    await clients.stop()


def degraded_because(device: Device) -> Reason | None:
    return device.executor.serving.degraded


async def degrade(device: Device, clients: Clients) -> None:
    await clients.slow_down()
    await device.until(lambda: device.executor.serving.degraded is not None)


async def test_a_release_that_is_too_slow_falls_back_and_comes_back_without_a_failed_request(
    device: Device, clients: Clients
) -> None:
    await device.until(
        lambda: device.executor.serving.verdict is not None and device.executor.serving.verdict.level == "ok"
    )
    assert device.serves == ACCURATE
    await degrade(device, clients)
    assert device.serves == SMALL
    why = device.executor.serving.degraded
    assert why is not None
    assert why.code == "service-level-broken"
    # The small one keeps the level with the very requests that broke it.
    await device.until(lambda: bool(device.events("restored")))
    degraded = device.events("degraded")[0]
    assert f"{SMALL} serves in place of {ACCURATE}" in degraded.text
    assert "50 ms are allowed" in degraded.text
    assert (degraded.severity, degraded.release, degraded.deployment) == ("warning", 1, "d1")
    # It came back while requests were still heavy, so it falls again, and waits longer the next time.
    await device.until(lambda: len(device.events("degraded")) > 1)
    clients.turns = 1
    await device.until(lambda: len(device.events("restored")) > 1)
    assert device.serves == ACCURATE
    assert device.executor.serving.degraded is None
    await device.until(
        lambda: device.executor.serving.verdict is not None and device.executor.serving.verdict.level == "ok"
    )
    await clients.stop()
    assert clients.wrong == []
    assert clients.answers > 100
    told = [event.kind for event in device.events()]
    assert told.index("service-level") < told.index("degraded") < told.index("restored")
    assert any("is kept again" in event.text for event in device.events("service-level"))
    assert device.changes >= len(told)


async def test_a_degraded_runner_that_dies_is_replaced_by_the_same_variant(
    device: Device, clients: Clients
) -> None:
    await degrade(device, clients)
    await clients.stop()
    dead = device.server.active
    assert dead is not None
    os.kill(dead.pid, signal.SIGKILL)
    await device.until(lambda: device.server.active is not dead and device.server.ready)
    assert device.serves == SMALL


async def test_a_standby_that_is_refused_does_not_serve_and_it_is_said(tmp_path: Path) -> None:
    device = Device(tmp_path, standby_works=False)
    await device.start()
    await device.executor.serve(ServeActive(active=device.release))
    clients = Clients(device.server.listeners.unix_path)
    try:
        await clients.slow_down()
        await device.until(lambda: len(device.events("degrade-refused")) > 1)
        first = device.events("degrade-refused")[0]
        assert f"{SMALL} is not let in: outputs differ from the golden vectors" in first.text
        assert first.text.endswith("tried again in 1 s")
        assert device.serves == ACCURATE
        assert device.executor.serving.degraded is None
    finally:
        await clients.stop()
        await device.stop()
    assert clients.wrong == []


async def test_a_new_deployment_ends_it_and_is_judged_by_its_own_main_variant(
    device: Device, clients: Clients
) -> None:
    await degrade(device, clients)
    candidate = replace(device.another(2), deployment="d2")
    assert isinstance(
        await device.executor.probe(ProbeCandidate(deployment="d2", candidate=candidate, tried=())),
        ProbePassed,
    )
    activate = ActivateCandidate(deployment="d2", candidate=candidate, replaces=device.release)
    assert isinstance(await device.executor.activate(activate), Activated)
    assert (device.serves, device.executor.serving.degraded, device.executor.serving.verdict) == (
        ACCURATE,
        None,
        None,
    )
    # Nothing watches it on probation, however slow it is; a rollback begins with the main variant of the old one.
    reason = Reason(code="failure-rate", text="too many failed")
    await device.executor.restore(RestorePrevious(deployment="d2", target=device.release, reason=reason))
    active = device.server.active
    assert active is not None
    assert (active.spec.release, active.spec.variant) == (1, ACCURATE)
    assert device.executor.serving.degraded is None
    await clients.stop()
    assert clients.wrong == []


async def test_what_is_degraded_stays_so_when_a_run_is_undone_before_it_was_activated(
    device: Device, clients: Clients
) -> None:
    await degrade(device, clients)
    why = device.executor.serving.degraded
    reason = Reason(code="superseded", text="something else is wanted")
    await device.executor.restore(RestorePrevious(deployment="d2", target=device.release, reason=reason))
    assert (device.serves, device.executor.serving.degraded) == (SMALL, why)
    await device.until(lambda: bool(device.events("restored")))
    await clients.stop()
    assert clients.wrong == []


async def test_a_watch_that_is_cut_short_while_it_proves_the_standby_leaves_no_runner_behind(
    device: Device, clients: Clients
) -> None:
    await clients.slow_down()
    await device.until(lambda: len(_runners()) > 1)
    await device.executor.serving.pause()
    assert len(_runners()) == 1
    assert device.serves == ACCURATE
    await device.executor.serve(ServeActive(active=device.release))
    await device.until(lambda: device.executor.serving.degraded is not None)
    await clients.stop()
    assert clients.wrong == []


async def test_a_swap_that_outlives_its_watch_is_taken_note_of(device: Device, clients: Clients) -> None:
    await clients.slow_down()
    await device.until(lambda: len(_runners()) > 1)
    async with asyncio.timeout(30):
        while device.serves != SMALL:  # noqa: ASYNC110 - the watch must not hear of it first
            await asyncio.sleep(0)
    await device.executor.serving.pause()
    assert degraded_because(device) is None
    await device.executor.serve(ServeActive(active=device.release))
    await device.until(lambda: degraded_because(device) is not None)
    why = degraded_because(device)
    assert why is not None
    assert (why.code, device.serves) == ("degraded-before", SMALL)
    await device.until(lambda: bool(device.events("restored")))
    await clients.stop()
    assert clients.wrong == []


def _runners() -> list[psutil.Process]:
    """Of this process, those that are no longer loading included."""
    return [
        child
        for child in own_children()
        if child.status() != psutil.STATUS_ZOMBIE and "agent.runner" in child.cmdline()
    ]


async def test_without_a_service_level_slowness_moves_nothing_but_a_crash_loop_does(tmp_path: Path) -> None:
    device = Device(tmp_path, slo=None)
    await device.start()
    await device.executor.serve(ServeActive(active=device.release))
    clients = Clients(device.server.listeners.unix_path, count=1)
    try:
        await clients.slow_down()
        await device.until(lambda: _requests(device) > 20)
        assert device.executor.serving.verdict is None
        assert device.events() == []
        await clients.stop()
        killed: set[int] = set()
        await device.until(
            lambda: _kill_chosen(device, killed) or device.executor.serving.degraded is not None
        )
        why = device.executor.serving.degraded
        assert why is not None
        assert (why.code, device.serves, device.server.ready) == ("runner-dies", SMALL, True)
        assert "died again and again" in device.events("degraded")[0].text
    finally:
        await clients.stop()
        await device.stop()


def _requests(device: Device) -> int:
    runner = device.server.active
    return 0 if runner is None or runner.statistics is None else runner.statistics.requests


def _kill_chosen(device: Device, killed: set[int]) -> bool:
    """Kill the chosen variant's runner, each once; never true."""
    runner = device.server.active
    if runner is not None and runner.alive and runner.spec.variant == ACCURATE and runner.pid not in killed:
        killed.add(runner.pid)
        os.kill(runner.pid, signal.SIGKILL)
    return False
