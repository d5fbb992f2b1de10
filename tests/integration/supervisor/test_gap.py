"""A candidate that does not fit beside the active release: real runners; only how much memory is free is made up."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from agent.supervisor.errors import RunnerError, RunnerStartError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.room import Room
from agent.supervisor.serving import RunnerEvent, ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.support.own_children import own_children

SpecOf = Callable[[int], RunnerSpec]

BUDGET = 150.0
RESERVE = 32.0
ENOUGH, TOO_LITTLE, HOPELESS = 1_000.0, 170.0, 20.0
"""Free MiB: for both; for one alone (an active runner uses more than 12); for none."""


class Device:
    """What the device has free, whatever it really has."""

    def __init__(self) -> None:
        self._measure: Callable[[], float] = lambda: ENOUGH

    def has(self, free: float) -> None:
        self._measure = lambda: free

    def has_what(self, measure: Callable[[], float]) -> None:
        self._measure = measure

    def measure(self) -> float:
        return self._measure()


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def allow_gap() -> bool:
    return True


@pytest.fixture
async def server(
    tmp_path: Path,
    settings: ServerSettings,
    events: list[RunnerEvent],
    device: Device,
    allow_gap: bool,  # noqa: FBT001 - a fixture
) -> AsyncIterator[ModelServer]:
    listeners = await ModelListeners.open(
        "add", unix_path=tmp_path / "add.sock", private_folder=tmp_path / "slots"
    )
    server = ModelServer(
        listeners,
        settings=replace(settings, drain_seconds=2.0, memory_reserve_mib=RESERVE, allow_gap=allow_gap),
        on_event=events.append,
        room=Room(device.measure),
    )
    server.start("no release of add is active yet")
    yield server
    await server.stop()
    assert own_children() == []


@pytest.fixture
def small(spec_of: SpecOf) -> SpecOf:
    """Release n with a memory budget."""
    return lambda release: replace(spec_of(release), memory_limit_mib=BUDGET)


@pytest.fixture
async def serving(server: ModelServer, small: SpecOf) -> ModelServer:
    await server.activate(await server.prepare(small(1)))
    return server


async def ask(server: ModelServer) -> int | str:
    """The release that answers, or why none does."""
    transport = httpx.AsyncHTTPTransport(uds=str(server.listeners.unix_path))
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}
    async with httpx.AsyncClient(transport=transport, timeout=30) as client:
        answer = await client.post("http://device/v2/models/add/infer", json={"inputs": [tensor]})
    if answer.status_code == 503:
        return str(answer.json()["error"])
    return int(answer.json()["outputs"][0]["data"][0])


async def until_it_serves(server: ModelServer, release: int) -> None:
    async with asyncio.timeout(30):
        while not (server.ready and await ask(server) == release):  # noqa: ASYNC110 - seen as a client does
            await asyncio.sleep(0.02)


def move_aside(path: str) -> Path:
    return Path(path).rename(f"{path}.aside")


def move_back(aside: Path) -> None:
    aside.rename(aside.with_suffix(""))


def kinds(events: list[RunnerEvent]) -> list[tuple[str, int]]:
    return [(event.kind, event.spec.release) for event in events]


CAME_BACK = [("gap-began", 1), ("gap-ended", 1)]


async def test_what_fits_is_started_beside(
    serving: ModelServer, small: SpecOf, events: list[RunnerEvent]
) -> None:
    candidate = await serving.prepare(small(2))
    assert await ask(serving) == 1
    await serving.activate(candidate)
    assert events == []


async def test_what_does_not_fit_is_started_instead_and_clients_are_told_why(
    serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
) -> None:
    device.has(TOO_LITTLE)
    candidate = await serving.prepare(small(2))
    assert [child.pid for child in own_children()] == [candidate.pid]
    told = await ask(serving)
    assert "release 2 is being prepared" in str(told)
    assert "this device has 170 MiB free, 182 are needed to run both" in str(told)
    assert (serving.active, serving.ready) == (None, False)
    await serving.activate(candidate)
    assert await ask(serving) == 2
    await asyncio.sleep(0)
    assert kinds(events) == [("gap-began", 1), ("gap-ended", 2)]
    assert events[0].reason.code == "not-enough-memory"
    seconds = events[1].gap_seconds
    assert seconds is not None
    assert 0 < seconds < 30
    assert f"nothing did for {seconds:.1f} s" in events[1].reason.text


class TestTheOldOneComesBack:
    async def test_when_the_candidate_is_refused(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        with pytest.raises(RunnerStartError):
            await serving.prepare(replace(small(2), artifact_sha256="0" * 64))
        await until_it_serves(serving, 1)
        assert kinds(events) == CAME_BACK

    async def test_when_the_candidate_is_discarded(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        await serving.discard(await serving.prepare(small(2)))
        await until_it_serves(serving, 1)
        assert kinds(events) == CAME_BACK

    async def test_when_the_candidate_dies_and_nobody_asks_for_it(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        candidate = await serving.prepare(small(2))
        os.kill(candidate.pid, signal.SIGKILL)
        await until_it_serves(serving, 1)
        assert kinds(events) == CAME_BACK
        with pytest.raises(RunnerError):
            await serving.activate(candidate)
        assert await ask(serving) == 1

    @pytest.mark.parametrize("moment", ["draining", "loading"])
    async def test_when_the_caller_is_cancelled(
        self, moment: str, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        old = serving.active
        assert old is not None
        preparing = asyncio.create_task(serving.prepare(small(2)))
        async with asyncio.timeout(30):
            while not events:  # noqa: ASYNC110 - the list fills
                await asyncio.sleep(0.001)
            if moment == "loading":
                await old.exited
                while not own_children():  # noqa: ASYNC110 - a process's birth is not an event
                    await asyncio.sleep(0.001)
        assert not preparing.done()
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        await until_it_serves(serving, 1)
        assert kinds(events) == CAME_BACK

    async def test_as_often_as_it_takes(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        candidate = await serving.prepare(small(2))
        aside = move_aside(small(1).artifact_path)
        await serving.discard(candidate)
        async with asyncio.timeout(30):
            while ("runner-died", 1) not in kinds(events):  # noqa: ASYNC110 - the list fills
                await asyncio.sleep(0.02)
        move_back(aside)
        await until_it_serves(serving, 1)
        assert kinds(events)[0] == ("gap-began", 1)
        assert [kind for kind in kinds(events) if kind[0] == "gap-ended"] == [("gap-ended", 1)]

    async def test_and_makes_room_again_for_the_next_candidate(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has_what(lambda: TOO_LITTLE if own_children() else ENOUGH)
        await serving.discard(await serving.prepare(small(2)))
        candidate = await serving.prepare(small(3))  # release 1 is on its way
        await serving.activate(candidate)
        assert await ask(serving) == 3
        assert [event for event in kinds(events) if event[0] == "gap-ended"][-1] == ("gap-ended", 3)

    async def test_but_not_where_another_one_was_deactivated_on_purpose(
        self, serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
    ) -> None:
        device.has(TOO_LITTLE)
        candidate = await serving.prepare(small(2))
        await serving.deactivate("withdrawn")
        await serving.discard(candidate)
        assert await ask(serving) == "withdrawn"
        assert own_children() == []
        device.has(ENOUGH)
        await serving.activate(await serving.prepare(small(3)))
        assert await ask(serving) == 3


async def test_what_fits_in_no_case_is_refused_without_a_gap(
    serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
) -> None:
    device.has(HOPELESS)
    with pytest.raises(RunnerStartError, match="not-enough-memory: this device has 20 MiB free"):
        await serving.prepare(small(2))
    assert await ask(serving) == 1
    assert events == []


async def test_what_must_serve_is_not_refused(
    serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
) -> None:
    device.has(HOPELESS)
    await serving.activate(await serving.prepare(small(2), essential=True))
    assert await ask(serving) == 2
    assert kinds(events) == [("gap-began", 1), ("gap-ended", 2)]


async def test_what_drains_is_waited_for_before_a_gap_is_made(
    serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
) -> None:
    reader, writer = await asyncio.open_unix_connection(serving.listeners.unix_path)
    writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")  # from now on an idle client, which the old runner waits for
    await serving.activate(await serving.prepare(small(2)))
    device.has_what(lambda: TOO_LITTLE if len(own_children()) > 1 else ENOUGH)
    candidate = await serving.prepare(small(3))
    assert await ask(serving) == 2
    await serving.activate(candidate)
    assert events == []
    writer.close()


async def test_two_candidates_do_not_count_on_the_same_memory(device: Device) -> None:
    room = Room(device.measure)
    with room.promise(BUDGET):
        assert room.free_mib() == ENOUGH - BUDGET
    assert room.free_mib() == ENOUGH


@pytest.mark.parametrize("allow_gap", [False])
async def test_where_the_settings_forbid_a_gap_the_candidate_is_refused(
    serving: ModelServer, small: SpecOf, device: Device, events: list[RunnerEvent]
) -> None:
    device.has(TOO_LITTLE)
    with pytest.raises(RunnerStartError, match=r"serving\.allow_gap forbids"):
        await serving.prepare(small(2))
    assert await ask(serving) == 1
    assert events == []


async def test_stopping_in_a_gap_leaves_nothing(serving: ModelServer, small: SpecOf, device: Device) -> None:
    device.has(TOO_LITTLE)
    await serving.prepare(small(2))
    await serving.stop()
    assert own_children() == []
