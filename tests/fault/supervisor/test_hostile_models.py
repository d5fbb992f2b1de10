"""Valid model files that would eat a device: real ones, in real runners. A release with one is refused, and nothing else suffers."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from agent.core.restart import RestartPolicy
from agent.supervisor.errors import RunnerDiedError, RunnerError, RunnerStartError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.contract.runner import tiny_models as tiny
from tests.fault.supervisor.hungry_model import hungry
from tests.support.own_children import own_children

SpecOf = Callable[[str, bytes], RunnerSpec]
ServerOf = Callable[[str], "asyncio.Future[ModelServer]"]

LIMIT_MIB = 250.0


@pytest.fixture
def spec_of(tmp_path: Path) -> SpecOf:
    def make(model: str, content: bytes) -> RunnerSpec:
        path = tmp_path / f"{hashlib.sha256(content).hexdigest()}.onnx"
        path.write_bytes(content)
        return RunnerSpec(
            model=model,
            release=1,
            deployment=f"d-{model}",
            variant="onnx-fp32",
            runtime="onnx",
            artifact_path=str(path),
            artifact_sha256=path.stem,
            inputs=(tiny.spec("x", "FP32", -1, 4),),
            outputs=(tiny.spec("y", "FP32", -1, 4),),
            default_deadline_ms=60_000.0,
            memory_limit_mib=LIMIT_MIB,
        )

    return make


@pytest.fixture
def events() -> list[RunnerEvent]:
    return []


@pytest.fixture
def load_seconds() -> float:
    return 60.0


@pytest.fixture
async def servers(
    tmp_path: Path, events: list[RunnerEvent], load_seconds: float
) -> AsyncIterator[dict[str, ModelServer]]:
    """Two models of one device: ``good`` and ``bad``."""
    settings = ServerSettings(
        load_timeout_seconds=load_seconds,
        outage_grace_seconds=30.0,
        restart=RestartPolicy(first_delay=0.01),
    )
    made = {}
    for name in ("good", "bad"):
        listeners = await ModelListeners.open(
            name, unix_path=tmp_path / f"{name}.sock", private_folder=tmp_path / "slots"
        )
        made[name] = ModelServer(listeners, settings=settings, on_event=events.append)
        made[name].start("nothing is active yet")
    yield made
    await asyncio.gather(*(server.stop() for server in made.values()))
    assert own_children() == []


def client_of(server: ModelServer) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(server.listeners.unix_path))
    return httpx.AsyncClient(transport=transport, base_url="http://device", timeout=60)


async def infer(client: httpx.AsyncClient, model: str, first: float = 0.0) -> int:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [first, 0, 0, 0]}
    return (await client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})).status_code


async def bloat(client: httpx.AsyncClient, model: str) -> None:
    """Ask for 80 MiB again and again: over the budget of +40, within what RLIMIT_DATA leaves."""
    while True:
        await infer(client, model, 80.0)


class Asking:
    """A client with one persistent connection that asks until it is told to stop."""

    def __init__(self, server: ModelServer) -> None:
        self.codes: list[int] = []
        self._server = server
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        async with client_of(self._server) as client:
            while not self._stop.is_set():
                self.codes.append(await infer(client, self._server.model))

    async def stop(self) -> list[int]:
        self._stop.set()
        await self._task
        return self.codes


@pytest.mark.parametrize(
    ("content", "load_seconds", "error", "code", "words"),
    [
        (tiny.onnx_endless_loop(), 6.0, RunnerStartError, "start-timeout", "within 6 s"),
        (
            tiny.onnx_allocation_bomb(8, while_loading=True),
            60.0,
            RunnerDiedError,
            "memory-over-budget",
            "at most 250.0 MiB",
        ),
        (
            tiny.onnx_allocation_bomb(8, while_loading=False),
            60.0,
            RunnerDiedError,
            "memory-over-budget",
            "at most 250.0 MiB",
        ),
    ],
    ids=["endless loop", "bomb while loading", "bomb in a run"],
)
async def test_it_is_refused_with_the_reason_and_the_active_release_serves_on(
    content: bytes,
    error: type[RunnerError],
    code: str,
    words: str,
    servers: dict[str, ModelServer],
    spec_of: SpecOf,
    events: list[RunnerEvent],
) -> None:
    server = servers["good"]
    await server.activate(await server.prepare(spec_of("good", tiny.onnx_unary("Identity"))))
    asking = Asking(server)
    with pytest.raises(error) as refused:
        await server.prepare(spec_of("good", content))
    codes = await asking.stop()
    assert refused.value.code == code
    assert words in refused.value.text
    assert set(codes) == {200}
    assert events == []
    assert len(own_children()) == 1  # the active one


async def test_a_run_that_does_not_end_is_ended_with_its_runner_and_another_one_serves(
    servers: dict[str, ModelServer], spec_of: SpecOf, events: list[RunnerEvent]
) -> None:
    good, bad = servers["good"], servers["bad"]
    await good.activate(await good.prepare(spec_of("good", tiny.onnx_unary("Identity"))))
    spec = replace(spec_of("bad", tiny.onnx_busy(None)), stuck_seconds=4.0)
    await bad.activate(await bad.prepare(spec))
    first = bad.active
    assert first is not None
    asking = Asking(good)
    async with client_of(bad) as client:
        for _ in range(3):  # it learns that this model is slow, and runs it beside its loop
            assert await infer(client, "bad", 1e5) == 200
        with pytest.raises(httpx.TransportError):
            await infer(client, "bad", 4e9)  # turns: more than an hour
        ended = await first.exited
        assert await infer(client, "bad") == 200
    assert set(await asking.stop()) == {200}
    assert (ended.signal, ended.reason.code) == (signal.SIGKILL, "runner-stuck")
    assert "an inference has been under way for" in ended.reason.text
    assert [(event.kind, event.spec.model) for event in events] == [
        ("runner-died", "bad"),
        ("runner-restarted", "bad"),
    ]


async def test_a_runner_that_says_nothing_any_more_is_replaced(
    servers: dict[str, ModelServer], spec_of: SpecOf, events: list[RunnerEvent]
) -> None:
    server = servers["bad"]
    spec = replace(spec_of("bad", tiny.onnx_unary("Identity")), stuck_seconds=3.0)
    await server.activate(await server.prepare(spec))
    first = server.active
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    ended = await first.exited
    assert ended.reason.code == "runner-stuck"
    assert "has not answered its supervisor for" in ended.reason.text
    async with client_of(server) as client:
        assert await infer(client, "bad") == 200
    assert [event.kind for event in events] == ["runner-died", "runner-restarted"]


async def test_a_runner_that_is_idle_is_not_taken_for_stuck(
    servers: dict[str, ModelServer], spec_of: SpecOf
) -> None:
    server = servers["good"]
    spec = replace(spec_of("good", tiny.onnx_unary("Identity")), stuck_seconds=3.0)
    await server.activate(await server.prepare(spec))
    assert server.active is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):  # longer than it may be silent
            await server.active.exited
    assert server.ready


async def test_a_runner_has_the_niceness_of_its_settings_in_every_thread(
    servers: dict[str, ModelServer], spec_of: SpecOf
) -> None:
    runner = await servers["good"].prepare(replace(spec_of("good", tiny.onnx_unary("Identity")), nice=7))
    threads = [int(thread.name) for thread in Path(f"/proc/{runner.pid}/task").iterdir()]  # noqa: ASYNC240 - a /proc
    assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {7}


async def test_one_that_bloats_is_replaced_and_the_other_model_answers_on(
    servers: dict[str, ModelServer], spec_of: SpecOf, events: list[RunnerEvent]
) -> None:
    good, bad = servers["good"], servers["bad"]
    await good.activate(await good.prepare(spec_of("good", tiny.onnx_unary("Identity"))))
    unlimited = await bad.prepare(replace(spec_of("bad", tiny.onnx_unary("Identity")), memory_limit_mib=None))
    used = unlimited.memory_mib()
    assert used is not None
    await bad.discard(unlimited)
    tight = replace(spec_of("bad", hungry()), memory_limit_mib=used + 40)
    await bad.activate(await bad.prepare(tight))
    first = bad.active
    assert first is not None
    asking = Asking(good)
    async with client_of(bad) as client:
        with pytest.raises(httpx.TransportError):
            await bloat(client, "bad")
        ended = await first.exited
        assert await infer(client, "bad") == 200
    assert set(await asking.stop()) == {200}
    assert ended.reason.code == "memory-over-budget"
    assert [(event.kind, event.spec.model) for event in events] == [
        ("runner-died", "bad"),
        ("runner-restarted", "bad"),
    ]
