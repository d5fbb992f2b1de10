"""One model's life: takes events one at a time, persists the new state, then has the machine's commands executed.

Each model has a worker of its own, so a stuck deployment never blocks another model's.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from agent.core.commands import (
    ActivateCandidate,
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
from agent.core.events import ActivationFailed, Event, FetchFailed, ProbationFailed, ProbeFailed
from agent.core.model_state import ModelState
from agent.core.update_machine import recover, step
from agent.protocol.state import Reason
from agent.service.ports import Executor, StatePort

log = logging.getLogger(__name__)


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
        clock: Callable[[], float],
        decide: Callable[[ModelState], Event | None],
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self._store = store
        self._executor = executor
        self._clock = clock
        self._decide = decide
        self._changed = changed
        self._inbox: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None

    def reconsider(self) -> None:
        """The desired state, a hold or the world may have changed: decide anew."""
        self._inbox.put_nowait(None)

    def post(self, event: Event) -> None:
        """Hand in an event from outside: a technician's rollback."""
        self._inbox.put_nowait(event)

    async def run(self) -> None:
        """Recover, then take events until cancelled.

        Raises:
            Exception: the state could not be persisted, or a command broke that has no way to fail; whoever starts
                the agent anew recovers from what is persisted.
        """
        try:
            state, commands = recover(self.state, self._clock())
            await self._take(state, commands)
            self.reconsider()
            while True:
                event = await self._inbox.get()
                if isinstance(event, Exception):
                    raise event
                if event is None:
                    event = self._decide(self.state)
                if event is not None:
                    await self._apply(event)
        finally:
            await self._interrupt()

    async def _apply(self, event: Event) -> None:
        try:
            state, commands = step(self.state, event, self._clock())
        except StaleEventError as error:
            log.info("late answer dropped", extra={"model": self.state.model, "why": str(error)})
            return
        except IllegalEventError:
            log.exception("event refused by the update machine", extra={"model": self.state.model})
            return
        await self._interrupt()
        await self._take(state, commands)

    async def _take(self, state: ModelState, commands: tuple[Command, ...]) -> None:
        if state != self.state or not commands:
            await self._store.put(state_key(state.model), msgspec.json.encode(state))
        self.state = state
        self._changed()
        for command in commands:
            if isinstance(command, ServeActive | CommitRelease | DiscardCandidate):
                # No answer comes and nothing may cut it short, so it is run to its end here.
                await self._call(command)
            else:
                self._running = asyncio.create_task(self._answer(command), name=f"command-{state.model}")
        if state.deployment is None or state.deployment.final:
            self.reconsider()

    async def _interrupt(self) -> None:
        """Stop the command under way: what it was for has been decided otherwise, or it has ended."""
        task, self._running = self._running, None
        if task is None or task is asyncio.current_task():
            return
        task.cancel()
        # Not `await task`: its cancellation could not be told from the worker's own, which must get through.
        await asyncio.wait({task})

    async def _answer(self, command: Command) -> None:
        try:
            answer: Event | Exception | None = await self._call(command)
        except Exception as error:
            # A deployment must end whatever breaks, never stand still.
            log.exception(
                "command broke", extra={"model": self.state.model, "command": type(command).__name__}
            )
            answer = _broken(command, error)
        if answer is not None:
            self._inbox.put_nowait(answer)

    def _call(self, command: Command) -> Coroutine[Any, Any, Event | None]:
        executor: Any = self._executor
        call: Callable[[Command], Coroutine[Any, Any, Event | None]] = getattr(
            executor, _METHODS[type(command)]
        )
        return call(command)


def _broken(command: Command, error: Exception) -> Event | Exception:
    """The failure that answers a command whose executor raised; the exception itself where it has none."""
    fail = _FAILURES.get(type(command))
    if fail is None or isinstance(command, ServeActive):
        return error
    text = f"the agent failed at it: {type(error).__name__}: {error}"
    return fail(deployment=command.deployment, reason=Reason(code="internal-error", text=text))


_FAILURES: dict[type[Command], Callable[..., Event]] = {
    FetchRelease: FetchFailed,
    ProbeCandidate: ProbeFailed,
    ActivateCandidate: ActivationFailed,
    WatchProbation: ProbationFailed,
}

_METHODS: dict[type[Command], str] = {
    FetchRelease: "fetch",
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
