"""A worker under cancellation, late requests and failing parts: it ends when told to, and every run ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from agent.core.events import (
    Activated,
    Assigned,
    Event,
    Fetched,
    Permitted,
    ProbationPassed,
    ProbePassed,
    Reported,
    RolledBack,
    Superseded,
)
from agent.core.model_state import ModelState
from agent.core.slots import InstalledRelease, Slots
from agent.core.update_machine import request_rollback
from agent.protocol.state import Assignment, Measurement, Phase, Reason, VariantPolicy
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service import worker as worker_module
from agent.service.worker import ModelWorker, state_key

DIGEST = "a" * 64
WHY = Reason(code="superseded", text="something else is wanted")


def installed(release: int) -> InstalledRelease:
    return InstalledRelease(
        deployment=f"d{release}",
        model="digits",
        release=release,
        variant="int8",
        artifact=DIGEST,
        manifest=DIGEST,
        variant_policy=VariantPolicy.MOST_ACCURATE,
        files=(DIGEST,),
    )


def assigned(release: int) -> Assigned:
    manifest = ReleaseFile(filename="manifest.json", sha256=DIGEST, size=1)
    wanted = VerifiedAssignment(
        model="digits",
        release=release,
        assignment=Assignment(deployment=f"d{release}"),
        manifest=manifest,
        files=(manifest,),
    )
    return Assigned(deployment=f"d{release}", assignment=wanted)


MEASURED = Measurement(
    variant="int8",
    artifact=DIGEST,
    size_bytes=1,
    p50_ms=1,
    p99_ms=1,
    peak_memory_mib=1,
    golden_max_error=0,
    golden_class_agreement=1,
    budget_p99_ms=9,
    budget_memory_mib=9,
)


class Disk:
    """Durable state in memory; ``refuses`` is how many writes fail first, ``gate`` holds a write back."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.refuses = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = asyncio.Event()

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def put(self, key: str, value: bytes) -> None:
        self.writing.set()
        await self.gate.wait()
        if self.refuses:
            self.refuses -= 1
            raise OSError(28, "No space left on device")
        self.values[key] = value

    @property
    def phase(self) -> Phase | None:
        return msgspec.json.decode(self.values[state_key("digits")], type=ModelState).phase


Step = Callable[[Any], Any]


class Hands:
    """An executor that succeeds in everything, unless a test puts another hand in (``instead[method]``)."""

    def __init__(self) -> None:
        self.instead: dict[str, Step] = {}
        self.called: list[str] = []

    async def _do(self, method: str, command: Any, answer: Event | None) -> Event | None:
        self.called.append(method)
        if method in self.instead:
            result = await self.instead[method](command)
            return answer if result is None else result
        return answer

    async def fetch(self, c: Any) -> Any:
        release = c.assignment.release
        return await self._do("fetch", c, Fetched(deployment=c.deployment, candidate=installed(release)))

    async def permit(self, c: Any) -> Any:
        return await self._do("permit", c, Permitted(deployment=c.deployment))

    async def probe(self, c: Any) -> Any:
        return await self._do("probe", c, ProbePassed(deployment=c.deployment, measurement=MEASURED))

    async def activate(self, c: Any) -> Any:
        return await self._do("activate", c, Activated(deployment=c.deployment))

    async def watch(self, c: Any) -> Any:
        return await self._do("watch", c, ProbationPassed(deployment=c.deployment))

    async def restore(self, c: Any) -> Any:
        return await self._do("restore", c, RolledBack(deployment=c.deployment))

    async def report(self, c: Any) -> Any:
        return await self._do("report", c, Reported(deployment=c.deployment))

    async def commit(self, c: Any) -> None:
        await self._do("commit", c, None)

    async def discard(self, c: Any) -> None:
        await self._do("discard", c, None)

    async def serve(self, c: Any) -> None:
        await self._do("serve", c, None)


class Bench:
    def __init__(self, state: ModelState) -> None:
        self.disk, self.hands = Disk(), Hands()
        self._moved = asyncio.Event()
        self.worker = ModelWorker(
            state,
            self.disk,
            self.hands,
            boot="boot",
            clock=lambda: 1.0,
            decide=lambda _: None,
            changed=self._moved.set,
        )

    async def until(self, reached: Callable[[ModelState], bool]) -> ModelState:
        async with asyncio.timeout(5):
            while not reached(self.worker.state):
                self._moved.clear()
                await self._moved.wait()
        return self.worker.state

    async def rest(self) -> ModelState:
        return await self.until(
            lambda state: (
                state.deployment is not None
                and state.deployment.final
                and not state.deployment.report_pending
            )
        )


@asynccontextmanager
async def working(state: ModelState | None = None) -> AsyncIterator[Bench]:
    bench = Bench(state or ModelState(model="digits"))
    task = asyncio.create_task(bench.worker.run())
    try:
        yield bench
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.done(), "the worker does not end when it is cancelled"


def on(release: int) -> ModelState:
    slots = Slots(active=installed(release), floor=release, committed=(release,))
    return ModelState(model="digits", slots=slots, ended=(f"d{release}",))


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "RETRY_SECONDS", (0.0,), raising=False)


async def test_a_stop_that_arrives_while_a_command_is_being_interrupted_is_not_lost() -> None:
    bench = Bench(ModelState(model="digits"))
    started, being_cancelled, let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow_to_cancel(_: Any) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            being_cancelled.set()
            await let_go.wait()

    bench.hands.instead["fetch"] = slow_to_cancel
    task = asyncio.create_task(bench.worker.run())
    bench.worker.post(assigned(1))
    await asyncio.wait_for(started.wait(), 5)
    bench.worker.post(Superseded(deployment="d1", reason=WHY))
    await asyncio.wait_for(being_cancelled.wait(), 5)
    task.cancel()
    await asyncio.sleep(0)
    let_go.set()
    _, hanging = await asyncio.wait({task}, timeout=2)
    for each in hanging:
        each.cancel()
    assert not hanging, "the worker swallowed its own cancellation"
    assert task.cancelled()


@pytest.mark.parametrize(
    ("method", "ends"),
    [
        ("fetch", Phase.REFUSED),
        ("permit", Phase.REFUSED),
        ("probe", Phase.REFUSED),
        ("activate", Phase.ROLLED_BACK),
        ("watch", Phase.ROLLED_BACK),
    ],
)
async def test_a_command_that_breaks_ends_its_run_and_not_the_agent(method: str, ends: Phase) -> None:
    async def broken(_: Any) -> None:
        raise OSError(5, "Input/output error")

    async with working(on(1)) as bench:
        bench.hands.instead[method] = broken
        bench.worker.post(assigned(2))
        state = await bench.rest()
        assert state.deployment is not None
        assert (state.phase, state.slots.active) == (ends, installed(1))
        assert state.deployment.reason is not None
        assert "Input/output error" in state.deployment.reason.text
        del bench.hands.instead[method]
        bench.worker.post(assigned(3))  # and the next one goes through
        assert (await bench.until(lambda state: state.slots.active == installed(3))).slots.floor == 3


async def test_a_restore_that_breaks_does_not_stay_half_way() -> None:
    async def broken(_: Any) -> None:
        raise KeyError("int8")

    async with working(on(1)) as bench:
        bench.hands.instead |= {"watch": broken, "restore": broken}
        bench.worker.post(assigned(2))
        assert (await bench.rest()).phase is Phase.ROLLED_BACK


async def test_a_report_that_breaks_is_tried_again_until_it_is_recorded() -> None:
    attempts = 0

    async def twice_broken(_: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError(28, "No space left on device")

    async with working() as bench:
        bench.hands.instead["report"] = twice_broken
        bench.worker.post(assigned(1))
        assert (await bench.rest()).phase is Phase.COMMITTED
        assert attempts == 3


@pytest.mark.parametrize("method", ["commit", "discard", "serve"])
async def test_tidying_up_that_breaks_is_logged_and_the_worker_goes_on(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Any) -> None:
        raise OSError(30, "Read-only file system")

    bench = Bench(on(1))
    bench.hands.instead[method] = broken
    if method == "discard":
        bench.hands.instead["fetch"] = broken
    task = asyncio.create_task(bench.worker.run())
    bench.worker.post(assigned(2))
    assert (await bench.rest()).phase in (Phase.COMMITTED, Phase.REFUSED)
    assert not task.done()
    assert "Read-only file system" in caplog.text
    task.cancel()
    await asyncio.wait({task})


async def test_a_full_disk_is_waited_for_and_nothing_is_done_before_the_state_is_on_it() -> None:
    async with working() as bench:
        await bench.until(lambda _: bool(bench.disk.values) or not bench.hands.called)
        bench.disk.refuses = 3
        bench.worker.post(assigned(1))
        await bench.rest()
        assert bench.disk.refuses == 0
        assert (bench.disk.phase, bench.hands.called.count("fetch")) == (Phase.COMMITTED, 1)


async def test_a_rollback_asked_for_while_its_release_is_being_committed_is_carried_out() -> None:
    async with working(on(1)) as bench:
        passed = asyncio.Event()

        async def hold_the_disk(_: Any) -> None:
            bench.disk.writing.clear()
            bench.disk.gate.clear()
            passed.set()

        bench.hands.instead["watch"] = hold_the_disk
        bench.worker.post(assigned(2))
        await asyncio.wait_for(passed.wait(), 5)
        await asyncio.wait_for(bench.disk.writing.wait(), 5)  # "committed" is on its way to the disk
        assert bench.worker.state.phase is Phase.PROBATION
        bench.worker.post(request_rollback(bench.worker.state, "it squeaks"))
        bench.disk.gate.set()
        state = await bench.until(lambda state: state.phase is Phase.ROLLED_BACK)
        assert (state.slots.active, state.slots.floor) == (installed(1), 2)
