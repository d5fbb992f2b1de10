"""The worker: persisted before it is done, one event at a time, never stuck."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from agent.core.commands import AwaitPermission
from agent.core.events import (
    Accepted,
    Activated,
    Assigned,
    Event,
    Fetched,
    FetchFailed,
    Permitted,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RollbackRequested,
    RolledBack,
    Superseded,
    VariantRejected,
)
from agent.core.model_state import DeploymentState, ModelState, Resumes
from agent.core.slots import Slots
from agent.protocol.state import Acceptance, Phase
from agent.service import worker as worker_module
from agent.service.worker import ModelWorker, load_state, state_key
from tests.unit.service.world import (
    DEADLINE,
    REASON,
    Journal,
    MemoryState,
    ScriptedExecutor,
    assigned,
    installed,
    measurement,
)

NOW = 1_700_000_000.0
FRESH = ModelState(model="digits")
SERVING_ONE = ModelState(
    model="digits",
    slots=Slots(active=installed(1), floor=1, committed=(1,)),
    deployment=DeploymentState(
        deployment="d1", model="digits", release=1, phase=Phase.COMMITTED, since=1.0, outcome=Phase.COMMITTED
    ),
    ended=("d1",),
)
Script = dict[str, list[Event | Exception]]
Decide = Callable[[ModelState], Event | None]


def assign(release: int) -> Assigned:
    return Assigned(deployment=f"d{release}", assignment=assigned(release))


def want(release: int) -> Decide:
    """What reconcile says where ``release`` is desired: begin it once, then let it be."""
    return lambda state: None if f"d{release}" in _known(state) else assign(release)


def _known(state: ModelState) -> tuple[str, ...]:
    current = () if state.deployment is None else (state.deployment.deployment,)
    return (*state.ended, *current)


def good_run(release: int) -> Script:
    name = f"d{release}"
    return {
        "fetch": [Fetched(deployment=name, candidate=installed(release))],
        "permit": [Permitted(deployment=name)],
        "probe": [ProbePassed(deployment=name, measurement=measurement(release))],
        "activate": [Activated(deployment=name)],
        "watch": [ProbationPassed(deployment=name)],
        "report": [Reported(deployment=name)],
    }


class Bench:
    """A worker at work."""

    def __init__(self, state: ModelState, script: Script, decide: Decide) -> None:
        self.journal = Journal()
        self.store = MemoryState(self.journal)
        self.executor = ScriptedExecutor(self.journal, script)
        self.decided: list[Phase | None] = []
        self.changes = 0
        self._decide = decide
        self.worker = ModelWorker(
            state,
            self.store,
            self.executor,
            boot="boot",
            clock=lambda: NOW,
            decide=self._note_and_decide,
            changed=self._changed,
        )
        self.task: asyncio.Task[None] | None = None

    def _note_and_decide(self, state: ModelState) -> Event | None:
        self.decided.append(state.phase)
        event = self._decide(state)
        if event is None and (state.deployment is None or not state.deployment.report_pending):
            self.journal.note("rests")
        return event

    def _changed(self) -> None:
        self.changes += 1

    @property
    def lines(self) -> list[str]:
        """The journal without its rests, and without the first write of a fresh model, which nothing depends on."""
        return [line for line in self.journal.lines if line not in {"rests", "put None"}]

    async def rest_in(self, phase: Phase) -> None:
        """Wait until the run has ended in ``phase`` and was reported."""

        def rests() -> bool:
            deployment = self.worker.state.deployment
            return deployment is not None and deployment.phase is phase and not deployment.report_pending

        await self.journal.until(rests)


@asynccontextmanager
async def at_work(
    state: ModelState = FRESH, script: Script | None = None, decide: Decide = lambda _: None
) -> AsyncIterator[Bench]:
    bench = Bench(state, script or {}, decide)
    bench.task = asyncio.create_task(bench.worker.run())
    try:
        yield bench
    finally:
        bench.task.cancel()
        await asyncio.wait({bench.task}, timeout=DEADLINE)
        assert bench.task.cancelled(), bench.task


async def test_every_state_is_persisted_before_its_commands_run() -> None:
    async with at_work(script=good_run(1), decide=want(1)) as bench:
        await bench.rest_in(Phase.COMMITTED)
        assert bench.lines == [
            "put fetching", "fetch",
            "put ready", "permit",
            "put probing", "probe",
            "put activating", "activate",
            "put probation", "watch",
            "put committed", "commit", "report",
            "put committed",
        ]  # fmt: skip
        assert bench.store.model("digits") == bench.worker.state
        assert bench.worker.state.slots.active == installed(1)


async def test_what_cant_be_persisted_is_not_done() -> None:
    bench = Bench(FRESH, good_run(1), lambda _: None)
    task = asyncio.create_task(bench.worker.run())
    await bench.journal.until_noted("rests")
    bench.store.broken = OSError(28, "No space left on device")
    bench.worker.post(assign(1))
    await bench.journal.until_noted("put refused")
    await asyncio.sleep(0)
    assert bench.executor.commands == []
    assert bench.worker.state == FRESH
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refused_variant_is_discarded_before_the_next_is_fetched() -> None:
    script = good_run(1)
    script["fetch"] *= 2
    script["permit"] *= 2
    script["probe"].insert(0, VariantRejected(deployment="d1", reason=REASON))
    # The second candidate is another variant of the same release.
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.rest_in(Phase.COMMITTED)
        assert bench.lines[5:10] == ["probe", "put fetching", "discard", "fetch", "put ready"], bench.lines
        assert bench.executor.commands[4].tried == ("onnx-int8",)


async def test_a_run_no_longer_wanted_is_interrupted_and_ends_superseded() -> None:
    wanted = {"release": 1}

    def decide(state: ModelState) -> Event | None:
        if state.phase is Phase.FETCHING and wanted["release"] == 0:
            return Superseded(deployment="d1", reason=REASON)
        return want(1)(state)

    async with at_work(script={"report": [Reported(deployment="d1")]}, decide=decide) as bench:
        await bench.journal.until_noted("fetch")
        wanted["release"] = 0
        bench.worker.reconsider()
        await bench.rest_in(Phase.SUPERSEDED)
        assert bench.lines == [
            "put fetching", "fetch", "fetch cancelled",
            "put superseded", "discard", "report", "put superseded",
        ]  # fmt: skip


async def test_a_technicians_rollback_interrupts_probation_and_restores() -> None:
    script = good_run(2)
    del script["watch"]
    script["restore"] = [RolledBack(deployment="d2")]
    async with at_work(SERVING_ONE, script, want(2)) as bench:
        await bench.journal.until_noted("watch")
        bench.worker.post(RollbackRequested(deployment="d2", reason=REASON))
        await bench.rest_in(Phase.ROLLED_BACK)
        after = bench.lines.index("watch") + 1
        assert bench.lines[after:] == [
            "watch cancelled", "put rolling-back", "restore",
            "put rolled-back", "discard", "report", "put rolled-back",
        ]  # fmt: skip
        assert bench.worker.state.slots.active == installed(1)
        restore = next(each for each in bench.executor.commands if hasattr(each, "target"))
        assert restore.target == installed(1)


async def test_a_late_answer_of_an_earlier_deployment_changes_nothing() -> None:
    async with at_work(script={}, decide=want(1)) as bench:
        await bench.journal.until_noted("fetch")
        before = bench.worker.state
        bench.worker.post(Fetched(deployment="d0", candidate=installed(1, "d0")))
        bench.decided.clear()
        bench.worker.reconsider()
        await bench.journal.until(lambda: len(bench.decided) > 0)
        assert bench.worker.state is before
        assert bench.lines == ["put fetching", "fetch"]


async def test_an_event_that_the_table_does_not_know_here_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with at_work(script=good_run(1)) as bench:
        bench.worker.post(ProbePassed(deployment="d1", measurement=measurement(1)))
        bench.worker.post(assign(1))
        await bench.rest_in(Phase.COMMITTED)
        assert bench.lines[0] == "put fetching"
        assert "event refused by the update machine" in caplog.text


async def test_it_decides_until_nothing_is_left_to_do() -> None:
    script = {name: answers + good_run(2)[name] for name, answers in good_run(1).items()}

    def first_one_then_two(state: ModelState) -> Event | None:
        if state.deployment is not None and not state.deployment.final:
            return None
        if state.deployment is not None and state.deployment.report_pending:
            return None
        return want(1)(state) or want(2)(state)

    async with at_work(script=script, decide=first_one_then_two) as bench:
        await bench.journal.until(lambda: bench.worker.state.slots.floor == 2)
        await bench.rest_in(Phase.COMMITTED)
        assert bench.worker.state.ended == ("d1", "d2")
        assert bench.worker.state.slots.previous == installed(1)
        assert bench.decided[0] is None


async def test_a_failed_fetch_ends_refused_with_its_reason() -> None:
    script: Script = {
        "fetch": [FetchFailed(deployment="d1", reason=REASON)],
        "report": [Reported(deployment="d1")],
    }
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.rest_in(Phase.REFUSED)
        assert bench.worker.state.deployment is not None
        assert bench.worker.state.deployment.reason == REASON
        assert bench.lines.count("fetch") == 1


async def interrupted_in(phase: Phase) -> ModelState:
    """The state that a crash in ``phase`` leaves."""
    script = good_run(2)
    until = {
        Phase.FETCHING: "fetch",
        Phase.READY: "permit",
        Phase.PROBING: "probe",
        Phase.PROBATION: "watch",
    }[phase]
    del script[until]
    async with at_work(SERVING_ONE, script, want(2)) as bench:
        await bench.journal.until_noted(until)
        return await load_state(bench.store, "digits")


async def test_after_a_crash_in_a_probe_it_rolls_back_and_serves() -> None:
    script: Script = {"restore": [RolledBack(deployment="d2")], "report": [Reported(deployment="d2")]}
    async with at_work(await interrupted_in(Phase.PROBING), script, want(2)) as bench:
        await bench.rest_in(Phase.ROLLED_BACK)
        assert bench.lines[:3] == ["serve", "put rolling-back", "restore"]
        deployment = bench.worker.state.deployment
        assert deployment is not None
        assert deployment.reason is not None
        assert deployment.reason.code == "interrupted"


@pytest.mark.parametrize(("phase", "goes_on"), [(Phase.FETCHING, "fetch"), (Phase.READY, "permit")])
async def test_after_a_crash_before_anything_was_tried_it_serves_and_goes_on(
    phase: Phase, goes_on: str
) -> None:
    async with at_work(await interrupted_in(phase), good_run(2), want(2)) as bench:
        await bench.rest_in(Phase.COMMITTED)
        assert bench.lines[:3] == ["serve", f"put {phase}", goes_on]


async def test_after_a_start_the_active_release_serves_before_anything_is_decided() -> None:
    async with at_work(SERVING_ONE) as bench:
        await bench.journal.until_noted("rests")
        assert bench.lines == ["serve"]
        assert bench.journal.lines[0] == "serve"


async def test_an_outcome_that_was_not_reported_before_a_crash_is_reported_now() -> None:
    script = good_run(1)
    del script["report"]
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.journal.until_noted("report")
        left = await load_state(bench.store, "digits")
    async with at_work(left, {"report": [Reported(deployment="d1")]}, want(1)) as bench:
        await bench.rest_in(Phase.COMMITTED)
        assert bench.lines == ["serve", "report", "put committed"]


@pytest.mark.parametrize(
    ("breaks", "ends"),
    [
        ("fetch", Phase.REFUSED),
        ("permit", Phase.REFUSED),
        ("probe", Phase.REFUSED),
        ("activate", Phase.ROLLED_BACK),
        ("watch", Phase.ROLLED_BACK),
    ],
)
async def test_a_command_that_breaks_ends_the_run_with_words(breaks: str, ends: Phase) -> None:
    script = good_run(1)
    script[breaks] = [RuntimeError("a bug")]
    script["restore"] = [RolledBack(deployment="d1")]
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.rest_in(ends)
        deployment = bench.worker.state.deployment
        assert deployment is not None
        assert deployment.reason is not None
        assert deployment.reason.code == "internal-error"
        assert "RuntimeError: a bug" in deployment.reason.text


async def test_a_probe_that_failed_keeps_what_it_measured() -> None:
    script = good_run(1)
    script["probe"] = [ProbeFailed(deployment="d1", reason=REASON, measurement=measurement(1))]
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.rest_in(Phase.REFUSED)
        assert bench.worker.state.deployment is not None
        assert bench.worker.state.deployment.measurement == measurement(1)
        assert bench.worker.state.slots.candidate is None


async def test_stopping_stops_the_command_under_way() -> None:
    async with at_work(decide=want(1)) as bench:
        await bench.journal.until_noted("fetch")
    assert bench.lines[-1] == "fetch cancelled"
    assert bench.store.model("digits").phase is Phase.FETCHING


async def test_a_stop_gets_through_while_a_command_is_being_interrupted() -> None:
    async with at_work(decide=want(1)) as bench:
        await bench.journal.until_noted("fetch")
        bench.executor.linger = 50
        bench.worker.post(RollbackRequested(deployment="d1", reason=REASON))
        for _ in range(10):
            await asyncio.sleep(0)
        assert bench.task is not None
        bench.task.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await bench.task
    assert "put rolling-back" not in bench.lines


async def test_everyone_is_told_of_every_change() -> None:
    async with at_work(script=good_run(1), decide=want(1)) as bench:
        await bench.rest_in(Phase.COMMITTED)
        assert bench.changes >= sum(line.startswith("put") for line in bench.lines)


async def test_a_model_that_was_never_seen_starts_fresh() -> None:
    store = MemoryState()
    assert await load_state(store, "digits") == FRESH
    assert state_key("digits") == "model/digits"


# --- people and restarts -----------------------------------------------------------------------------------------


def accepted(deployment: str) -> Accepted:
    return Accepted(deployment=deployment, acceptance=Acceptance(by="maria (uid 1000)", at=NOW))


async def test_an_acceptance_is_durable_when_it_is_answered_and_goes_with_the_command() -> None:
    script = good_run(1)
    script["permit"] = []
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.journal.until_noted("permit")
        script["permit"].append(Permitted(deployment="d1"))
        async with asyncio.timeout(DEADLINE):
            assert await bench.worker.accept(accepted("d1"))
        kept = await load_state(bench.store, "digits")
        assert kept.deployment is not None
        assert kept.deployment.accepted == accepted("d1").acceptance
        await bench.rest_in(Phase.COMMITTED)
        assert [c.accepted for c in bench.executor.commands if isinstance(c, AwaitPermission)] == [
            None,
            accepted("d1").acceptance,
        ]


async def test_an_acceptance_of_what_is_not_there_or_has_gone_on_is_not_taken() -> None:
    script = good_run(1)
    del script["probe"]
    async with at_work(script=script, decide=want(1)) as bench:
        await bench.journal.until_noted("probe")
        async with asyncio.timeout(DEADLINE):
            assert not await bench.worker.accept(accepted("d1"))
            assert not await bench.worker.accept(accepted("d0"))
        assert bench.worker.state.phase is Phase.PROBING


async def test_what_is_active_serves_before_the_disk_has_taken_anything() -> None:
    state = await interrupted_in(Phase.PROBING)
    bench = Bench(
        state, {"restore": [RolledBack(deployment="d2")], "report": [Reported(deployment="d2")]}, want(2)
    )
    bench.store.broken = OSError(28, "No space left on device")
    task = asyncio.create_task(bench.worker.run())
    await bench.journal.until_noted("put refused")
    assert bench.journal.lines[:2] == ["serve", "put refused"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_agent_that_runs_for_a_while_forgives_the_restarts_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "STEADY_SECONDS", 0.05)
    state = await interrupted_in(Phase.READY)
    assert state.deployment is not None
    often = replace(
        state, deployment=replace(state.deployment, resumes=Resumes(boot="old", in_a_row=4, in_all=9))
    )
    async with at_work(often, {}, want(2)) as bench:
        await bench.journal.until(lambda: resumes(bench.worker.state) == Resumes(boot="boot", in_all=10))
        assert bench.lines == ["serve", "put ready", "permit", "put ready"], "what goes on is not disturbed"


def resumes(state: ModelState) -> Resumes:
    assert state.deployment is not None
    return state.deployment.resumes
