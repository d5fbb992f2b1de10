"""A runner may hang, die, lie or eat memory; its supervisor names the fault, ends the process and goes on."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from agent.protocol.runner import Statistics
from agent.supervisor.errors import (
    ProbeFailedError,
    RunnerDiedError,
    RunnerError,
    RunnerStartError,
    RunnerTimeoutError,
)
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.runner_process import RunnerCallbacks, RunnerProcess
from agent.supervisor.specs import RunnerSpec
from tests.support.own_children import own_children

Peer = Callable[[str], tuple[str, ...]]


def _children() -> list[int]:
    return [each.pid for each in own_children()]


async def _probe(runner: RunnerProcess, seconds: float = 10.0) -> object:
    return await runner.probe(Path("/golden"), warmup=1, repetitions=1, timeout_seconds=seconds)


@pytest.mark.parametrize(
    ("fault", "error", "code", "words"),
    [
        ("hang-start", RunnerStartError, "start-timeout", "within 1.5 s"),
        ("load-failed", RunnerStartError, "unknown-domain", "com.evil"),
        ("die-start", RunnerDiedError, "runner-died", "exit status 3"),
        ("grow-start", RunnerDiedError, "memory-over-budget", "at most 120.0 MiB"),
        ("garbage", RunnerDiedError, "runner-protocol", "control protocol"),
        ("huge-frame", RunnerDiedError, "runner-protocol", "2147483647 bytes announced"),
    ],
)
async def test_a_fault_while_loading_is_named_and_leaves_nothing(
    fault: str,
    error: type[RunnerError],
    code: str,
    words: str,
    peer: Peer,
    listeners: ModelListeners,
    spec: RunnerSpec,
    tmp_path: Path,
) -> None:
    limited = replace(spec, memory_limit_mib=120.0)
    with pytest.raises(error) as caught:
        await RunnerProcess.spawn(limited, listeners, load_timeout_seconds=1.5, command=peer(fault))
    assert caught.value.code == code
    assert words in caught.value.text
    assert _children() == []
    assert list((tmp_path / "slots").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "error", "code", "words"),
    [
        ("die-probe", RunnerDiedError, "runner-died", "SIGSEGV"),
        ("hang-probe", ProbeFailedError, "probe-timeout", "within 1.5 s"),
        ("grow-probe", RunnerDiedError, "memory-over-budget", "at most 120.0 MiB"),
        ("lie-probe", RunnerDiedError, "runner-protocol", "answered Probe with Accepting"),
        ("probe-failed", ProbeFailedError, "inference-failed", "golden"),
        ("spike-probe", ProbeFailedError, "memory-over-budget", "at most 120.0 MiB"),
    ],
)
async def test_a_fault_in_the_probe_is_named(
    fault: str,
    error: type[RunnerError],
    code: str,
    words: str,
    peer: Peer,
    listeners: ModelListeners,
    spec: RunnerSpec,
) -> None:
    limited = replace(spec, memory_limit_mib=120.0)
    runner = await RunnerProcess.spawn(limited, listeners, load_timeout_seconds=10.0, command=peer(fault))
    with pytest.raises(RunnerError) as caught:
        await _probe(runner, 1.5)
    assert caught.value.code == code
    assert words in caught.value.text
    if fault != "spike-probe":  # it may be killed in its spike, or be found out after it
        assert type(caught.value) is error
    await runner.stop()
    assert _children() == []


async def test_a_runaway_is_killed_long_before_it_has_what_it_wanted(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    limited = replace(spec, memory_limit_mib=100.0)
    runner = await RunnerProcess.spawn(
        limited, listeners, load_timeout_seconds=10.0, command=peer("grow-probe")
    )
    with pytest.raises(RunnerDiedError):
        await _probe(runner)
    ended = await runner.exited
    assert ended.signal == signal.SIGKILL
    assert 100.0 < runner.peak_pss_mib() < 300.0


async def test_a_runner_that_never_accepts_is_ended(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    runner = await RunnerProcess.spawn(
        spec, listeners, load_timeout_seconds=10.0, command=peer("mute-accept")
    )
    with pytest.raises(RunnerTimeoutError, match="accept-timeout"):
        await runner.accept(timeout_seconds=0.5)
    assert not runner.alive
    with pytest.raises(RunnerDiedError, match="accept-timeout"):
        await runner.accept()


@pytest.mark.parametrize(
    ("fault", "words"),
    [("unasked", "Drained without being asked"), ("leave-channel", "closed its control channel")],
)
async def test_a_runner_that_breaks_the_control_protocol_is_ended(
    fault: str, words: str, peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    runner = await RunnerProcess.spawn(spec, listeners, load_timeout_seconds=10.0, command=peer(fault))
    ended = await runner.exited
    assert ended.reason.code == "runner-protocol"
    assert words in ended.reason.text


async def test_one_that_ignores_stop_is_killed(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    runner = await RunnerProcess.spawn(spec, listeners, load_timeout_seconds=10.0, command=peer("hang-stop"))
    ended = await runner.stop(timeout_seconds=0.3)
    assert (ended.signal, ended.expected) == (signal.SIGKILL, True)
    assert await runner.stop() == ended


async def test_one_that_ignores_drain_is_killed_after_its_deadline(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    runner = await RunnerProcess.spawn(spec, listeners, load_timeout_seconds=10.0, command=peer("hang-drain"))
    assert await runner.drain(0.1, grace=0.3) is None
    assert not runner.alive


async def test_an_allocation_bomb_fails_in_the_request_and_not_in_the_process(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    told: asyncio.Queue[Statistics] = asyncio.Queue()
    runner = await RunnerProcess.spawn(
        replace(spec, memory_limit_mib=200.0),
        listeners,
        load_timeout_seconds=10.0,
        callbacks=RunnerCallbacks(statistics=lambda _, statistics: told.put_nowait(statistics)),
        command=peer("bomb"),
    )
    runner.limit_growth()
    await runner.accept()
    async with asyncio.timeout(5):
        assert (await told.get()).failures == 1
    assert runner.alive
    await runner.stop()


async def test_a_cancelled_start_leaves_no_process(
    peer: Peer, listeners: ModelListeners, spec: RunnerSpec
) -> None:
    starting = asyncio.create_task(
        RunnerProcess.spawn(spec, listeners, load_timeout_seconds=30.0, command=peer("hang-start"))
    )
    while not _children():  # noqa: ASYNC110 - a process's birth is not an event
        await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert _children() == []


async def test_a_program_that_is_not_there_is_a_start_error(
    listeners: ModelListeners, spec: RunnerSpec
) -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(RunnerStartError, match="can't start a runner"):
        await RunnerProcess.spawn(spec, listeners, load_timeout_seconds=1.0, command=("/nowhere/python",))
    assert psutil.Process().num_fds() == before
