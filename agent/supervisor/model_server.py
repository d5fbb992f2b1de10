"""Serves one model without a gap: prepares candidates, swaps them in, replaces what crashes, says why nothing serves."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence

from agent.core.restart import Restart, RestartState, after_crash
from agent.protocol.state import Reason
from agent.supervisor.cgroup import Cgroup
from agent.supervisor.errors import AddressError, RunnerError, RunnerStartError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.placeholder import Placeholder
from agent.supervisor.room import Fit, Need, Room
from agent.supervisor.runner_process import RUNNER_COMMAND, RunnerCallbacks, RunnerProcess
from agent.supervisor.serving import Gap, RunnerEvent, RunnerEventKind, ServerSettings
from agent.supervisor.specs import RunnerSpec

_log = logging.getLogger(__name__)


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
        cgroup: Cgroup | None = None,
        room: Room | None = None,
    ) -> None:
        """``cgroup``: where the kernel keeps its runners' memory limits; ``room``: the device's, shared by its servers."""
        self.listeners = listeners
        self._settings = settings or ServerSettings()
        self._callbacks = callbacks or RunnerCallbacks()
        self._on_event = on_event
        self._command = tuple(command)
        self._cgroup = cgroup
        self._room = room or Room()
        self._gap: Gap | None = None
        self._preparing = 0
        self._placeholder = Placeholder(listeners.sockets, tls=listeners.access.tls)
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

    async def prepare(self, spec: RunnerSpec, *, essential: bool = False) -> RunnerProcess:
        """Start a candidate: loaded, warmed up, answering on its private socket only.

        Where its memory budget and the reserve do not fit beside the active runner, that one is drained first and clients
        are told 503 with the reason until the candidate is activated. If it never is (it fails, is discarded, or the caller
        is cancelled at any point), the server starts again what it had stopped, by itself. ``essential``: it is what must
        serve, so it is never refused for want of memory, and a gap is always allowed.

        Raises:
            RunnerStartError: the model can't be loaded, or not in time; or ``not-enough-memory``.
            RunnerDiedError: the process died, for instance over its memory limit.
        """
        self._preparing += 1
        try:
            await self._make_room(spec, essential=essential)
            with self._room.promise(spec.memory_limit_mib or 0.0):
                candidate = await self._spawn(spec)
            self._candidates.add(candidate)
        finally:
            self._preparing -= 1
            self._bring_back()
        candidate.exited.add_done_callback(lambda _: self._bring_back())
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
        try:
            await candidate.stop(timeout_seconds=self._settings.stop_seconds)
        finally:
            self._bring_back()

    async def deactivate(self, reason: str) -> None:
        """Serve nothing any more and answer 503 with ``reason``; the active runner drains in the background.

        Until it has read that it is to drain (milliseconds), it can still take a new connection and answer it;
        :meth:`drained` returns when it surely can't.
        """
        async with self._lock:
            await self._stop_guard()
            old, self._active = self._active, None
            if self._gap is not None:
                self._gap.stopped = None
            self._placeholder.resume(reason)
            self._drain_later(old)

    async def surrender_tcp(self) -> socket.socket | None:
        """Leave the TCP socket to the caller, who has somebody accept on it already; None where there is none.

        Clients that are connected are answered, and asked to connect again.
        """
        async with self._lock:
            listener = self.listeners.surrender_tcp()
            if listener is not None:
                self._placeholder.drop(listener)
                runners = {*self._candidates, *self._draining} | ({self._active} if self._active else set())
                for runner in runners:
                    await runner.yield_tcp()
            return listener

    async def drained(self) -> None:
        """Wait until no replaced runner is left."""
        while self._draining:
            await asyncio.wait(self._draining.values())  # not gather: it would cancel them with its caller

    async def stop(self) -> None:
        """End every runner and close the sockets."""
        async with self._lock:
            self._gap = None
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
        inherited = self.listeners.fds
        runner = await RunnerProcess.spawn(
            spec,
            self.listeners,
            load_timeout_seconds=self._settings.load_timeout_seconds,
            callbacks=self._callbacks,
            command=self._command,
            cgroup=self._cgroup,
        )
        if self.listeners.fds != inherited:
            await runner.yield_tcp()
        return runner

    async def _make_room(self, spec: RunnerSpec, *, essential: bool) -> None:
        """Stop the active runner where ``spec`` does not fit beside it.

        Raises:
            RunnerStartError: ``not-enough-memory``.
        """
        if self._gap is not None:
            async with self._lock:
                await self._stop_guard()  # what was to come back makes room for what comes now
        if spec.memory_limit_mib is None:
            return
        need, free = self._need(spec.memory_limit_mib), self._room.free_mib()
        if need.fit(free) is not Fit.BESIDE and self._draining:
            await self.drained()  # they give their memory back
            need, free = self._need(spec.memory_limit_mib), self._room.free_mib()
        fit = need.fit(free)
        if fit is Fit.BESIDE:
            return
        if not essential and (fit is Fit.NOT_AT_ALL or not self._settings.allow_gap):
            why = "" if fit is Fit.NOT_AT_ALL else ", and serving.allow_gap forbids to stop what serves"
            raise RunnerStartError(Reason(code="not-enough-memory", text=f"{need.told(free)}{why}"))
        await self._stop_for(spec, need.told(free))

    def _need(self, budget: float) -> Need:
        reserve, active = self._settings.memory_reserve_mib, self._active
        if active is None:
            return Need(budget=budget, reserve=reserve)
        used = active.memory_mib()
        if used is None:
            return Need(budget=budget, reserve=reserve, owed=active.spec.memory_limit_mib or 0.0)
        return Need(budget=budget, reserve=reserve, given_back=used)

    async def _stop_for(self, spec: RunnerSpec, shortage: str) -> None:
        async with self._lock:
            old = self._active
            if old is None:
                return
            await self._stop_guard()
            old, self._active = self._active or old, None
            self._gap = Gap(stopped=old.spec, began=time.monotonic())
            text = f"release {spec.release} is being prepared, release {old.spec.release} had to stop for it: {shortage}"
            self._placeholder.resume(f"model {self.model}: {text}")
            reason = Reason(code="not-enough-memory", text=text)
            self._emit(RunnerEvent(kind="gap-began", spec=old.spec, reason=reason))
            self._drain_later(old)
        await self.drained()

    def _bring_back(self) -> None:
        """Start again what was stopped to make room, unless something serves or may yet take its place."""
        gap = self._gap
        if gap is None or gap.stopped is None or self._active is not None or self._guard is not None:
            return
        if not self._preparing and not any(candidate.alive for candidate in self._candidates):
            self._guard = asyncio.create_task(self._serve_again(gap.stopped))

    async def _serve_again(self, spec: RunnerSpec) -> None:
        await self.drained()
        try:
            runner = await self._restart(spec)
        except (RunnerError, AddressError) as error:
            runner = await self._replace(spec, _reason(error))
        else:
            self._serve(runner)
        await self._keep_serving(runner)

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
                self._bring_back()
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
        gap, self._gap = self._gap, None
        if gap is not None:
            self._emit(gap.ended_by(runner.spec, self._since))

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
                reason = _reason(error)
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

    def _tell(self, kind: RunnerEventKind, spec: RunnerSpec, reason: Reason, plan: Restart) -> None:
        crashes = plan.state.crashes
        self._emit(RunnerEvent(kind=kind, spec=spec, reason=reason, crashes=crashes, looping=plan.looping))

    def _emit(self, event: RunnerEvent) -> None:
        told = {"model": event.spec.model, "release": event.spec.release, "reason": event.reason.text}
        _log.warning(event.kind, extra=told)
        if self._on_event is not None:
            # Its faults go to the loop's handler; they must not stop a restart.
            asyncio.get_running_loop().call_soon(self._on_event, event)


def _retrieve(task: asyncio.Task[None]) -> None:
    """Mark the outcome as seen where the caller was cancelled and never looks."""
    if not task.cancelled():
        task.exception()


def _sorry(spec: RunnerSpec, reason: Reason) -> str:
    return f"model {spec.model}: release {spec.release} is being restarted: {reason.text}"


def _reason(error: RunnerError | AddressError) -> Reason:
    return error.reason if isinstance(error, RunnerError) else Reason(code="start-failed", text=str(error))
