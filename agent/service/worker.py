"""One model's life: takes events one at a time, persists the new state, then has the machine's commands executed.

Each model has a worker of its own, so a stuck deployment never blocks another model's.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
    Command,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    ReportReversal,
    RestorePrevious,
    ServeActive,
    WatchProbation,
)
from agent.core.errors import IllegalEventError, StaleEventError
from agent.core.events import (
    Accepted,
    ActivationFailed,
    Event,
    FetchFailed,
    NotInstallable,
    ProbationFailed,
    ProbeFailed,
    RollbackRequested,
    RolledBack,
    Steady,
)
from agent.core.model_state import ModelState
from agent.core.update_machine import TRANSITIONS, recover, step
from agent.protocol.state import Reason
from agent.service.ports import Executor, StatePort
from agent.store.errors import StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts at what must succeed before the model can go on; the last one repeats."""


STEADY_SECONDS = 300.0
"""An agent that has run so long since a deployment was resumed is in no restart loop with it."""


def state_key(model: str) -> str:
    """Where a model's state is kept in the state store."""
    return f"model/{model}"


async def load_state(store: StatePort, model: str) -> ModelState:
    """The persisted state of ``model``; a fresh one where there is none."""
    data = await store.get(state_key(model))
    return ModelState(model=model) if data is None else msgspec.json.decode(data, type=ModelState)


class ModelWorker:
    """Drives one model's update machine.

    Args:
        boot: names this start of the agent.
        decide: called when the machine rests, with the state; returns the event that should open a deployment, or
            end the one under way, or None (:mod:`agent.core.reconcile` through the service).
        changed: called after every persisted change.
    """

    def __init__(
        self,
        state: ModelState,
        store: StatePort,
        executor: Executor,
        *,
        boot: str,
        clock: Callable[[], float],
        decide: Callable[[ModelState], Event | None],
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self._store = store
        self._executor = executor
        self._boot = boot
        self._clock = clock
        self._decide = decide
        self._changed = changed
        self._inbox: asyncio.Queue[Event | None] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._steadying: asyncio.Task[None] | None = None
        self._asked: dict[Accepted, list[asyncio.Future[bool]]] = {}
        """People who wait to hear whether their word was taken."""
        self._postponed: RollbackRequested | None = None
        """Asked for while an outcome was being recorded: carried out once it is."""

    def reconsider(self) -> None:
        """The desired state, a hold or the world may have changed: decide anew."""
        self._inbox.put_nowait(None)

    def post(self, event: Event) -> None:
        """Hand in an event from outside: a technician's rollback."""
        self._inbox.put_nowait(event)

    async def accept(self, event: Accepted) -> bool:
        """Hand in a person's word; whether it was taken. It is durable when this returns."""
        taken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._asked.setdefault(event, []).append(taken)
        self._inbox.put_nowait(event)
        return await taken

    async def run(self) -> None:
        """Recover, then take events until cancelled."""
        try:
            await self._recover()
            self._steadying = asyncio.create_task(self._become_steady(), name=f"steady-{self.state.model}")
            self.reconsider()
            while True:
                event = await self._inbox.get()
                if event is None:
                    event = self._decide(self.state)
                if event is not None:
                    await self._apply(event)
                    self._answer_person(event)
        finally:
            if self._steadying is not None:
                self._steadying.cancel()
            await self._interrupt()

    def _answer_person(self, event: Event) -> None:
        deployment = self.state.deployment
        if isinstance(event, Accepted):
            for taken in self._asked.pop(event, ()):
                if not taken.done():
                    taken.set_result(deployment is not None and deployment.accepted == event.acceptance)

    async def _recover(self) -> None:
        state, commands = recover(self.state, self._clock(), self._boot)
        serving = [self._tidy(each) for each in commands if isinstance(each, ServeActive)]
        # Both at once: a full disk must not keep what is active from serving, nor a slow start this one from being counted.
        await asyncio.gather(self._keep(state), *serving)
        await self._begin(tuple(each for each in commands if not isinstance(each, ServeActive)))

    async def _become_steady(self) -> None:
        """Once: only a deployment that was resumed at this start has restarts to be forgiven."""
        resumed = self.state.deployment
        if resumed is None or not resumed.resumes.in_a_row:
            return
        await asyncio.sleep(STEADY_SECONDS)
        self.post(Steady(deployment=resumed.deployment))

    async def _apply(self, event: Event) -> None:
        deployment = self.state.deployment
        if isinstance(event, RollbackRequested) and deployment is not None and deployment.report_pending:
            # It was accepted while the run was ending; the table refuses it until the outcome is recorded.
            self._postponed = event
            return
        if isinstance(event, Accepted | Steady) and (self.state.phase, type(event)) not in TRANSITIONS:
            return  # the run has gone on without waiting for it
        try:
            state, commands = step(self.state, event, self._clock())
        except StaleEventError as error:
            log.info("late answer dropped", extra={"model": self.state.model, "why": str(error)})
            return
        except IllegalEventError:
            log.exception("event refused by the update machine", extra={"model": self.state.model})
            return
        if commands or state.phase is not self.state.phase:
            await self._interrupt()
        await self._take(state, commands)

    async def _take(self, state: ModelState, commands: tuple[Command, ...]) -> None:
        await self._keep(state)
        await self._begin(commands)

    async def _keep(self, state: ModelState) -> None:
        if state != self.state or state.deployment is None:
            await self._persist(state)
        self.state = state
        self._changed()

    async def _begin(self, commands: tuple[Command, ...]) -> None:
        state = self.state
        for command in commands:
            if isinstance(command, CommitRelease | DiscardCandidate):
                # No answer comes and nothing may cut it short, so it is run to its end here.
                await self._tidy(command)
            else:
                self._running = asyncio.create_task(self._answer(command), name=f"command-{state.model}")
        if state.deployment is None or state.deployment.final:
            self._rest(state)

    def _rest(self, state: ModelState) -> None:
        reporting = state.deployment is not None and state.deployment.report_pending
        if self._postponed is not None and not reporting:
            self.post(self._postponed)
            self._postponed = None
        self.reconsider()

    async def _persist(self, state: ModelState) -> None:
        """Returns when the state is on the disk. One that is full holds up this model's updates, not the device."""
        data, attempt = msgspec.json.encode(state), 0
        while True:
            try:
                await self._store.put(state_key(state.model), data)
            except (OSError, sqlite3.Error, StoreError):
                log.exception("state not persisted; tried again", extra={"model": state.model})
                await _pause(attempt)
                attempt += 1
            else:
                return

    async def _interrupt(self) -> None:
        """Stop the command under way: what it was for has been decided otherwise, or it has ended."""
        task = self._running
        if task is None:
            return
        task.cancel()
        # Not `await task`: its cancellation could not be told from the worker's own, which must get through.
        await asyncio.wait({task})
        self._running = None  # not earlier: a stop that cuts this wait short has to wait for it again

    async def _tidy(self, command: Command) -> None:
        try:
            await self._call(command)
        except Exception:  # what was decided holds; the next command of its kind tidies up what this one left
            log.exception("command broke", extra=self._described(command))

    async def _answer(self, command: Command) -> None:
        """A deployment must end whatever breaks, never stand still: a command that raises is answered for."""
        attempt = 0
        while True:
            try:
                answer = await self._call(command)
            except Exception as error:
                log.exception("command broke", extra=self._described(command))
                answer = _broken(command, error)
                if answer is None:  # a report, which has no way to fail: the hub must hear of the outcome
                    await _pause(attempt)
                    attempt += 1
                    continue
            if answer is not None:
                self._inbox.put_nowait(answer)
            return

    def _described(self, command: Command) -> dict[str, str]:
        return {"model": self.state.model, "command": type(command).__name__}

    def _call(self, command: Command) -> Coroutine[Any, Any, Event | None]:
        executor: Any = self._executor
        call: Callable[[Command], Coroutine[Any, Any, Event | None]] = getattr(
            executor, _METHODS[type(command)]
        )
        return call(command)


async def _pause(attempt: int) -> None:
    await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])


def _broken(command: Command, error: Exception) -> Event | None:
    """What answers a command whose executor raised; None where only its success is an answer."""
    if isinstance(command, RestorePrevious):
        return RolledBack(
            deployment=command.deployment
        )  # in every case: to break again after a restart helps nobody
    fail = _FAILURES.get(type(command))
    if fail is None or isinstance(command, ServeActive):
        return None
    text = f"the agent failed at it: {type(error).__name__}: {error}"
    return fail(deployment=command.deployment, reason=Reason(code="internal-error", text=text))


_FAILURES: dict[type[Command], Callable[..., Event]] = {
    FetchRelease: FetchFailed,
    AwaitPermission: NotInstallable,
    ProbeCandidate: ProbeFailed,
    ActivateCandidate: ActivationFailed,
    WatchProbation: ProbationFailed,
}

_METHODS: dict[type[Command], str] = {
    FetchRelease: "fetch",
    AwaitPermission: "permit",
    ProbeCandidate: "probe",
    ActivateCandidate: "activate",
    WatchProbation: "watch",
    RestorePrevious: "restore",
    ReportOutcome: "report",
    ReportReversal: "report",
    CommitRelease: "commit",
    DiscardCandidate: "discard",
    ServeActive: "serve",
}
"""Command → method of the executor."""
