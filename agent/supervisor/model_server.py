"""Serves one model without a gap: prepares candidates, swaps them in, replaces what crashes, says why nothing serves."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from agent.core.restart import Restart, RestartPolicy, RestartState, after_crash
from agent.protocol.state import Reason
from agent.supervisor.errors import AddressError, RunnerError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.placeholder import Placeholder
from agent.supervisor.runner_process import RUNNER_COMMAND, RunnerCallbacks, RunnerProcess
from agent.supervisor.specs import RunnerSpec

_log = logging.getLogger(__name__)


class ServerSettings(Struct, frozen=True, kw_only=True):
    """How long a model's server waits for what."""

    load_timeout_seconds: float = 60.0
    accept_timeout_seconds: float = 10.0
    drain_seconds: float = 30.0
    """For idle clients of a replaced runner."""
    stop_seconds: float = 5.0
    outage_grace_seconds: float = 2.0
    """After a crash, new connections wait this long in the listen queue for the next runner before they are told 503."""
    restart: RestartPolicy = RestartPolicy()


class RunnerEvent(Struct, frozen=True, kw_only=True):
    """The active runner died, or another one serves in its place."""

    kind: Literal["runner-died", "runner-restarted"]
    spec: RunnerSpec
    reason: Reason
    """Why the runner, or the attempt to start it, ended; for ``runner-restarted`` the death that it makes good."""
    crashes: int
    """In a row, without a stable time between."""
    looping: bool
    """So many that it is a crash loop; restarts go on, slowly."""


class ModelServer:
    """One model's sockets, its active runner and its candidates.

    Every method must be called on the event loop it was started on. The listening sockets belong to it: :meth:`stop`
    closes them.
    """

    def __init__(
        self,
        listeners: ModelListeners,
        *,
        settings: ServerSettings | None = None,
        callbacks: RunnerCallbacks | None = None,
        on_event: Callable[[RunnerEvent], None] | None = None,
        command: Sequence[str] = RUNNER_COMMAND,
    ) -> None:
        self.listeners = listeners
        self._settings = settings or ServerSettings()
        self._callbacks = callbacks or RunnerCallbacks()
        self._on_event = on_event
        self._command = tuple(command)
        self._placeholder = Placeholder(listeners.sockets)
        self._active: RunnerProcess | None = None
        self._candidates: set[RunnerProcess] = set()
        self._draining: dict[RunnerProcess, asyncio.Task[object]] = {}
        self._guard: asyncio.Task[None] | None = None
        self._crashes = RestartState()
        self._since = 0.0
        self._lock = asyncio.Lock()

    @property
    def model(self) -> str:
        return self.listeners.model

    @property
    def active(self) -> RunnerProcess | None:
        """The runner that has the shared sockets; between a crash and its replacement the dead one."""
        return self._active

    @property
    def ready(self) -> bool:
        """A living runner answers requests."""
        return self._active is not None and self._active.alive

    @property
    def unavailable_because(self) -> str | None:
        """What clients are told with 503; None while requests are answered or wait."""
        return self._placeholder.reason if self._placeholder.serving else None

    def start(self, reason: str) -> None:
        """Answer 503 with ``reason`` until a release is active; again with another one to change it."""
        if self._active is None:
            self._placeholder.resume(reason)

    async def prepare(self, spec: RunnerSpec) -> RunnerProcess:
        """Start a candidate: loaded, warmed up, answering on its private socket only.

        Raises:
            RunnerStartError: the model can't be loaded, or not in time.
            RunnerDiedError: the process died, for instance over its memory limit.
        """
        candidate = await self._spawn(spec)
        self._candidates.add(candidate)
        return candidate

    async def activate(self, candidate: RunnerProcess) -> None:
        """Swap: ``candidate`` accepts on the shared sockets and has said so, then the one before drains in the background.

        Once begun it is finished even if the caller is cancelled. For the active one it does nothing.

        Raises:
            RunnerTimeoutError, RunnerDiedError: the candidate can't serve; whatever served before still does.
        """
        swap = asyncio.create_task(self._take_over(candidate))
        swap.add_done_callback(_retrieve)
        await asyncio.shield(swap)

    async def discard(self, candidate: RunnerProcess) -> None:
        """End a candidate. The active runner is not one: for it, this does nothing."""
        if candidate is self._active:
            return
        self._candidates.discard(candidate)
        await candidate.stop(timeout_seconds=self._settings.stop_seconds)

    async def deactivate(self, reason: str) -> None:
        """Serve nothing any more and answer 503 with ``reason``; the active runner drains in the background.

        Until it has read that it is to drain (milliseconds), it can still take a new connection and answer it;
        :meth:`drained` returns when it surely can't.
        """
        async with self._lock:
            await self._stop_guard()
            old, self._active = self._active, None
            self._placeholder.resume(reason)
            self._drain_later(old)

    async def drained(self) -> None:
        """Wait until no replaced runner is left."""
        await asyncio.gather(*self._draining.values())

    async def stop(self) -> None:
        """End every runner and close the sockets."""
        async with self._lock:
            await self._stop_guard()
            self._placeholder.pause()
            runners = {*self._candidates, *self._draining} | ({self._active} if self._active else set())
            self._candidates.clear()
            self._active = None
            seconds = self._settings.stop_seconds
            await asyncio.gather(*(each.stop(timeout_seconds=seconds) for each in runners))
            await self.drained()
            await self._placeholder.close()
            self.listeners.close()

    async def _spawn(self, spec: RunnerSpec) -> RunnerProcess:
        return await RunnerProcess.spawn(
            spec,
            self.listeners,
            load_timeout_seconds=self._settings.load_timeout_seconds,
            callbacks=self._callbacks,
            command=self._command,
        )

    async def _take_over(self, candidate: RunnerProcess) -> None:
        async with self._lock:
            if candidate is self._active:
                return
            old = self._active
            told = self.unavailable_because
            await self._stop_guard()
            # Connections that come in between wait in the listen queue.
            self._placeholder.pause()
            try:
                await self._let_in(candidate)
            except RunnerError:
                self._candidates.discard(candidate)
                if told is not None:
                    self._placeholder.resume(told)
                if old is not None:
                    self._guard = asyncio.create_task(self._keep_serving(old))
                raise
            self._candidates.discard(candidate)
            self._crashes = RestartState()
            self._serve(candidate)
            self._guard = asyncio.create_task(self._keep_serving(candidate))
            self._drain_later(old)

    async def _let_in(self, runner: RunnerProcess) -> None:
        runner.limit_growth()
        await runner.accept(timeout_seconds=self._settings.accept_timeout_seconds)

    def _serve(self, runner: RunnerProcess) -> None:
        self._placeholder.pause()
        self._active = runner
        self._since = time.monotonic()

    def _drain_later(self, old: RunnerProcess | None) -> None:
        if old is None or not old.alive:
            return
        task: asyncio.Task[object] = asyncio.create_task(old.drain(self._settings.drain_seconds))
        self._draining[old] = task
        task.add_done_callback(lambda _: self._draining.pop(old, None))

    async def _stop_guard(self) -> None:
        if self._guard is None:
            return
        self._guard.cancel()
        await asyncio.wait((self._guard,))
        self._guard = None

    async def _keep_serving(self, runner: RunnerProcess) -> None:
        """Replace ``runner`` when it dies, and whatever replaced it, until cancelled."""
        while True:
            ended = await runner.exited
            # Not at once: most outages are over before a client's patience is.
            grace = asyncio.get_running_loop().call_later(
                self._settings.outage_grace_seconds,
                self._placeholder.resume,
                _sorry(runner.spec, ended.reason),
            )
            try:
                runner = await self._replace(runner.spec, ended.reason)
            finally:
                grace.cancel()

    async def _replace(self, spec: RunnerSpec, reason: Reason) -> RunnerProcess:
        """Start it again, after the policy's delay, as often as it takes."""
        started = self._since
        while True:
            plan = self._plan_restart(started)
            self._tell("runner-died", spec, reason, plan)
            await asyncio.sleep(plan.delay)
            started = time.monotonic()
            try:
                fresh = await self._restart(spec)
            except (RunnerError, AddressError) as error:
                reason = error.reason if isinstance(error, RunnerError) else _no_address(error)
                if self._placeholder.serving:
                    self._placeholder.resume(_sorry(spec, reason))
                continue
            self._serve(fresh)
            self._tell("runner-restarted", spec, reason, plan)
            return fresh

    async def _restart(self, spec: RunnerSpec) -> RunnerProcess:
        fresh = await self._spawn(spec)
        told = self.unavailable_because
        self._placeholder.pause()
        try:
            await self._let_in(fresh)
        except BaseException:
            if told is not None:
                self._placeholder.resume(told)
            await fresh.stop(timeout_seconds=0.0)
            raise
        return fresh

    def _plan_restart(self, started: float) -> Restart:
        plan = after_crash(self._settings.restart, self._crashes, started=started, crashed=time.monotonic())
        self._crashes = plan.state
        return plan

    def _tell(
        self,
        kind: Literal["runner-died", "runner-restarted"],
        spec: RunnerSpec,
        reason: Reason,
        plan: Restart,
    ) -> None:
        event = RunnerEvent(
            kind=kind, spec=spec, reason=reason, crashes=plan.state.crashes, looping=plan.looping
        )
        _log.warning(
            kind,
            extra={"model": spec.model, "release": spec.release, "reason": reason.text, "delay": plan.delay},
        )
        if self._on_event is not None:
            # Its faults go to the loop's handler; they must not stop a restart.
            asyncio.get_running_loop().call_soon(self._on_event, event)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark the outcome as seen where the caller was cancelled and never looks."""
    if not task.cancelled():
        task.exception()


def _sorry(spec: RunnerSpec, reason: Reason) -> str:
    return f"model {spec.model}: release {spec.release} is being restarted: {reason.text}"


def _no_address(error: AddressError) -> Reason:
    return Reason(code="start-failed", text=str(error))
