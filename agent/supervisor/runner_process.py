"""One runner: an inference process, seen from the supervisor."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
from msgspec import Struct

from agent.protocol.errors import MessageTooLargeError
from agent.protocol.runner import (
    Accept,
    Accepting,
    Alive,
    Drain,
    Drained,
    EndShadow,
    FromRunner,
    LabelsGiven,
    LabelsJoined,
    Loaded,
    LoadFailed,
    Predicted,
    Probe,
    ProbeFailed,
    ProbeReport,
    SampleTaken,
    Shadow,
    ShadowReport,
    Statistics,
    Stop,
    WindowClosed,
    WindowOpen,
    YieldTcp,
)
from agent.protocol.state import Reason
from agent.supervisor.cgroup import SLACK_MIB, Cgroup, MemoryEvents, RunnerCgroup
from agent.supervisor.children import Child, module_command, spawn_child
from agent.supervisor.errors import (
    ChannelClosedError,
    ChannelError,
    ChannelProtocolError,
    ProbeFailedError,
    RunnerDiedError,
    RunnerError,
    RunnerStartError,
    RunnerTimeoutError,
)
from agent.supervisor.listeners import ModelListeners, PrivateListener
from agent.supervisor.liveness import Liveness
from agent.supervisor.memory import MemoryWatch, ProcessGoneError, limit_data, pss_mib
from agent.supervisor.outcomes import Exit, ProbeMeasurement, over_budget, why_it_died
from agent.supervisor.specs import RunnerSpec

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Struct)

RUNNER_COMMAND = module_command("agent.runner")

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONNODEBUGRANGES": "1"}
"""OpenBLAS alone reserves 40 MB of VmData for threads that a runner never starts. Python keeps, for every instruction, the
columns it came from, which only underline a traceback."""

_GOODBYE_SECONDS = 2.0
"""For a process to end after it has closed its channel, and for its last frames to be read after it has ended."""
_DATA_SLACK_MIB = 64.0
"""VmData counts what is reserved, not only what is used; a limit without slack would fail honest requests."""


def _no_states(_model: str, _release: int) -> dict[str, bytes]:
    return {}


class RunnerCallbacks(Struct, frozen=True, kw_only=True):
    """Called by the event loop, one at a time, for what a runner says without being asked; must not block."""

    drift_states: Callable[[str, int], dict[str, bytes]] = _no_states
    """Asked for each process that starts: :attr:`agent.protocol.runner.Start.drift_states` of its model and release."""
    statistics: Callable[["RunnerProcess", Statistics], None] | None = None
    window: Callable[[WindowClosed], None] | None = None
    """Also for windows that it could not close any more, when it has ended: incomplete, as it last told of them."""
    window_open: Callable[[WindowClosed], None] | None = None
    """How far an open window is, now and then."""
    sample: Callable[[SampleTaken], None] | None = None
    predicted: Callable[["RunnerProcess", Predicted], None] | None = None
    labels: Callable[["RunnerProcess", LabelsGiven], None] | None = None


class RunnerProcess:
    """A runner that has loaded its model. Made by :meth:`spawn`; ends by :meth:`drain`, :meth:`stop` or by itself."""

    def __init__(
        self,
        spec: RunnerSpec,
        child: Child[FromRunner],
        private: PrivateListener,
        callbacks: RunnerCallbacks,
        cgroup: RunnerCgroup | None,
    ) -> None:
        self.spec = spec
        self.statistics: Statistics | None = None
        """The newest that it has sent."""
        self.shadow_report: ShadowReport | None = None
        """The newest that it has sent, where it feeds a candidate."""
        self.lowered = False
        """It gets only what the processors have left, so that silence says nothing about it."""
        self.loaded: Loaded | None = None
        self._child = child
        self._private = private
        self._callbacks = callbacks
        self._cgroup = cgroup
        self._watch = MemoryWatch(
            child.pid,
            limit_mib=spec.memory_limit_mib,
            over=lambda pss, limit: self._end_because(over_budget(pss, limit)),
            bounded=cgroup is not None,
        )
        self._liveness = Liveness(
            spec.stuck_seconds,
            excused=lambda: self._answer is not None or self.lowered,
            stuck=self._end_because,
        )
        self._open_windows: dict[str | None, WindowClosed] = {}
        """By slice: what is left of them if it ends now."""
        self._ended_because: Reason | None = None
        self._answer: asyncio.Future[FromRunner] | None = None
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._life = asyncio.create_task(self._live())

    @classmethod
    async def spawn(
        cls,
        spec: RunnerSpec,
        listeners: ModelListeners,
        *,
        load_timeout_seconds: float,
        callbacks: RunnerCallbacks | None = None,
        command: Sequence[str] = RUNNER_COMMAND,
        cgroup: Cgroup | None = None,
    ) -> "RunnerProcess":
        """Start a process, have it load the model, and return it when it answers on its private socket.

        With ``cgroup`` the kernel keeps its memory limit as well. Nothing is left behind when it raises or is cancelled.

        Raises:
            RunnerStartError: it can't be started, says ``LoadFailed``, or has not loaded within ``load_timeout_seconds``.
            RunnerDiedError: it died while loading, for instance over its memory limit.
            AddressError: no private socket can be made.
        """
        private = listeners.private()
        try:
            child = await spawn_child(
                command,
                "--control-fd",
                FromRunner,
                pass_fds=(private.fileno(), *listeners.inherited_fds),
                environment=_ENVIRONMENT,
            )
        except OSError as error:
            private.remove()
            raise RunnerStartError(
                Reason(code="start-failed", text=f"can't start a runner: {error}")
            ) from error
        except BaseException:
            private.remove()
            raise
        own = _settle(spec, child.pid, cgroup)
        runner = cls(spec, child, private, callbacks or RunnerCallbacks(), own)
        try:
            await runner._load(listeners, load_timeout_seconds)
        except BaseException:
            await runner.stop(timeout_seconds=0.0)
            raise
        return runner

    async def _load(self, listeners: ModelListeners, timeout_seconds: float) -> None:
        start = self.spec.start(
            private_fd=self._private.fileno(),
            shared_fds=listeners.fds,
            access=listeners.access,
            drift_states=self._callbacks.drift_states(self.spec.model, self.spec.release),
        )
        late = Reason(code="start-timeout", text=f"the model was not loaded within {timeout_seconds:g} s")
        with self._watch.closely():
            answer: Loaded | LoadFailed = await self._ask(
                start, (Loaded, LoadFailed), timeout_seconds, RunnerStartError(late)
            )
        self._private.close()
        if isinstance(answer, LoadFailed):
            raise RunnerStartError(Reason(code=answer.code, text=answer.text))
        self.loaded = answer
        _log.info(
            "runner loaded",
            extra={
                "pid": self.pid,
                "model": self.spec.model,
                "release": self.spec.release,
                "backend": answer.backend,
            },
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def private_path(self) -> Path:
        """Its own Unix socket: the Open Inference Protocol, for probing and diagnosis."""
        return self._private.path

    @property
    def alive(self) -> bool:
        return not self._exit.done()

    @property
    def exited(self) -> asyncio.Future[Exit]:
        """Resolves when the process is gone and everything it had said has been read. Safe to await and to cancel."""
        return asyncio.shield(self._exit)

    def memory_mib(self) -> float | None:
        """PSS now, MiB; None when the process is gone."""
        try:
            return pss_mib(self.pid) if self.alive else None
        except ProcessGoneError:
            return None

    def peak_pss_mib(self) -> float:
        """Peak PSS since the process started, MiB; what was seen of it, when it is gone."""
        return self._watch.peak_mib()

    async def probe(
        self,
        golden_path: Path,
        *,
        warmup: int,
        repetitions: int,
        timeout_seconds: float,
        p99_limit_ms: float | None = None,
    ) -> ProbeMeasurement:
        """Have it compare its golden outputs and time itself, and measure its memory meanwhile.

        Raises:
            ProbeFailedError: it says so, or takes longer than ``timeout_seconds`` (then it has been ended).
            RunnerDiedError: it died, for instance over its memory limit.
        """
        request = Probe(
            golden_path=str(golden_path), warmup=warmup, repetitions=repetitions, p99_limit_ms=p99_limit_ms
        )
        late = Reason(code="probe-timeout", text=f"the probe was not finished within {timeout_seconds:g} s")
        with self._watch.closely():
            answer: ProbeReport | ProbeFailed = await self._ask(
                request, (ProbeReport, ProbeFailed), timeout_seconds, ProbeFailedError(late)
            )
            peak = self.peak_pss_mib()
        if isinstance(answer, ProbeFailed):
            raise ProbeFailedError(Reason(code=answer.code, text=answer.text))
        self._refuse_peak(peak)
        return ProbeMeasurement(report=answer, peak_pss_mib=peak)

    def _refuse_peak(self, peak: float) -> None:
        """A peak between two looks that the kernel remembers is over the limit just the same."""
        limit = self.spec.memory_limit_mib
        if limit is not None and peak > limit:
            raise ProbeFailedError(over_budget(peak, limit))

    async def accept(self, *, timeout_seconds: float = 10.0) -> None:
        """Have it accept on the shared sockets; returns when it does.

        Raises:
            RunnerTimeoutError: no answer; it has been ended.
            RunnerDiedError: it is gone.
        """
        late = Reason(
            code="accept-timeout", text=f"the runner did not accept requests within {timeout_seconds:g} s"
        )
        await self._ask(Accept(), (Accepting,), timeout_seconds, RunnerTimeoutError(late))

    async def yield_tcp(self) -> None:
        """Have it leave TCP to the front, whether it accepts already or will; nothing where it is gone."""
        with contextlib.suppress(ChannelError):
            await self._child.channel.send(YieldTcp())

    async def say(self, order: Shadow | EndShadow | LabelsJoined) -> None:
        """Tell it something that it does not answer; nothing where it is gone."""
        with contextlib.suppress(ChannelError):
            await self._child.channel.send(order)

    def limit_growth(self) -> None:
        """Let an allocation that would take it past its memory limit fail from now on: one request, not the process.

        Without a limit, nothing.
        """
        limit = self.spec.memory_limit_mib
        if limit is None:
            return
        try:
            limit_data(self.pid, max(0.0, limit - pss_mib(self.pid)) + _DATA_SLACK_MIB)
        except (ProcessGoneError, PermissionError) as error:
            _log.warning("no RLIMIT_DATA for a runner", extra={"pid": self.pid, "error": str(error)})

    async def drain(self, idle_seconds: float, *, grace: float = 10.0) -> Drained | None:
        """Have it finish what it has begun, wait up to ``idle_seconds`` for idle clients, and leave.

        One that has not left ``grace`` seconds later is ended. Never raises; None when it died instead of draining.
        """
        self._ended_because = Reason(code="stopped", text="drained")
        late = Reason(
            code="drain-timeout", text=f"the runner had not drained after {idle_seconds + grace:g} s"
        )
        try:
            drained = await self._ask(
                Drain(idle_seconds=idle_seconds), (Drained,), idle_seconds + grace, RunnerTimeoutError(late)
            )
        except RunnerError as error:
            _log.warning("a runner did not drain", extra={"pid": self.pid, "reason": error.text})
            return None
        await self._end_within(_GOODBYE_SECONDS)
        return drained

    async def stop(self, *, timeout_seconds: float = 5.0) -> Exit:
        """Have it close its drift window and exit; kill it after ``timeout_seconds``. Safe to call on a dead one."""
        if self._ended_because is None:
            self._ended_because = Reason(code="stopped", text="stopped by the supervisor")
        if timeout_seconds > 0:
            with contextlib.suppress(ChannelError):
                await self._child.channel.send(Stop())
        return await self._end_within(timeout_seconds)

    async def _end_within(self, seconds: float) -> Exit:
        try:
            async with asyncio.timeout(seconds):
                return await self.exited
        except TimeoutError:
            self._child.kill()
            return await self.exited
        except asyncio.CancelledError:
            self._child.kill()
            raise

    def _end_because(self, reason: Reason) -> None:
        """Kill it; the first reason stays."""
        if self._ended_because is None:
            self._ended_because = reason
        self._child.kill()

    async def _ask(
        self, request: Struct, answers: tuple[type[M], ...], timeout_seconds: float, late: RunnerError
    ) -> M:
        """Send and wait for one of ``answers``.

        A runner that is late, or is asked and then forgotten (cancelled), is killed: what it would say next could not
        be told from the answer to the next question.
        """
        self._refuse_dead()
        self._answer = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_seconds):
                with contextlib.suppress(ChannelClosedError):  # its death is what the future will tell
                    await self._child.channel.send(request)
                answer = await self._answer
        except TimeoutError:
            self._end_because(late.reason)
            await self.exited
            raise late from None
        except MessageTooLargeError as error:
            raise RunnerStartError(Reason(code="request-too-large", text=str(error))) from error
        except asyncio.CancelledError:
            self._end_because(Reason(code="stopped", text="given up"))
            raise
        finally:
            self._answer = None
        if isinstance(answer, answers):
            return answer
        said = type(answer).__name__
        self._end_because(
            Reason(code="runner-protocol", text=f"answered {type(request).__name__} with {said}")
        )
        raise RunnerDiedError((await self.exited).reason)

    def _refuse_dead(self) -> None:
        if self._exit.done():
            raise RunnerDiedError(self._exit.result().reason)

    async def _live(self) -> None:
        """From start to end: read what it says, watch it, reap it, and tell everyone who waits."""
        reading = asyncio.create_task(self._read())
        watching = [asyncio.create_task(watch.run()) for watch in (self._watch, self._liveness)]
        waiting = asyncio.create_task(self._child.process.wait())
        # Ended processes may have left frames to read; one that only closed its channel can't be asked for anything.
        await asyncio.wait((reading, waiting), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((reading, waiting), timeout=_GOODBYE_SECONDS)
        if not waiting.done():
            text = "the runner closed its control channel and stayed"
            self._end_because(Reason(code="runner-protocol", text=text))
        code = await waiting
        for task in (reading, *watching):
            task.cancel()
        await asyncio.gather(reading, *watching, return_exceptions=True)
        await self._child.channel.close()
        self._private.remove()
        self._finish(self._describe(code))

    def _finish(self, ended: Exit) -> None:
        _log.info(
            "runner exited", extra={"pid": self.pid, "model": self.spec.model, "reason": ended.reason.text}
        )
        if self._callbacks.window is not None:
            for left in self._open_windows.values():
                asyncio.get_running_loop().call_soon(self._callbacks.window, left)
        self._exit.set_result(ended)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(RunnerDiedError(ended.reason))

    def _describe(self, code: int) -> Exit:
        memory = MemoryEvents()
        if self._cgroup is not None:
            memory = self._cgroup.events()
            self._cgroup.remove()
        reason = self._ended_because or why_it_died(self.spec, code, memory)
        return Exit(code=None if code < 0 else code, signal=-code if code < 0 else None, reason=reason)

    async def _read(self) -> None:
        try:
            while True:
                self._take(await self._child.channel.receive())
        except ChannelProtocolError as error:
            self._end_because(
                Reason(code="runner-protocol", text=f"the runner broke the control protocol: {error}")
            )
        except ChannelClosedError:
            return

    def _take(self, message: FromRunner) -> None:
        running = message.running_seconds if isinstance(message, Alive) and not self.lowered else None
        self._liveness.heard(running)
        if isinstance(message, Alive):
            if message.running_seconds:
                self._watch.stir()
        elif isinstance(message, Statistics):
            self.statistics = message
            self._watch.stir()
            if self._callbacks.statistics is not None:
                asyncio.get_running_loop().call_soon(self._callbacks.statistics, self, message)
        elif isinstance(message, WindowOpen | WindowClosed | SampleTaken | Predicted | LabelsGiven):
            self._pass_on(message)
        elif isinstance(message, ShadowReport):
            self.shadow_report = message
        elif self._answer is not None and not self._answer.done():
            if isinstance(message, Accepting):
                self.statistics = None  # of what was asked before it served
            self._answer.set_result(message)
        else:
            said = type(message).__name__
            self._end_because(
                Reason(code="runner-protocol", text=f"the runner said {said} without being asked")
            )

    def _pass_on(self, message: WindowOpen | WindowClosed | SampleTaken | Predicted | LabelsGiven) -> None:
        loop, callbacks = asyncio.get_running_loop(), self._callbacks
        if isinstance(message, WindowOpen):
            self._open_windows[message.so_far.window.slice] = message.so_far
        elif isinstance(message, WindowClosed):
            self._open_windows.pop(message.window.slice, None)
        match message:
            case WindowClosed() if callbacks.window is not None:
                loop.call_soon(callbacks.window, message)
            case WindowOpen() if callbacks.window_open is not None:
                loop.call_soon(callbacks.window_open, message.so_far)
            case SampleTaken() if callbacks.sample is not None:
                loop.call_soon(callbacks.sample, message)
            case Predicted() if callbacks.predicted is not None:
                loop.call_soon(callbacks.predicted, self, message)
            case LabelsGiven() if callbacks.labels is not None:
                loop.call_soon(callbacks.labels, self, message)


def _settle(spec: RunnerSpec, pid: int, cgroup: Cgroup | None) -> RunnerCgroup | None:
    """Give a process that has just begun its priority and its memory limit, before it has taken anything.

    Threads inherit both. A candidate gets the priority it will serve with: its latency is judged.
    """
    if spec.nice:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).nice(spec.nice)
    if cgroup is None or spec.memory_limit_mib is None:
        return None
    own = None
    try:
        own = cgroup.child(spec.model, spec.memory_limit_mib + SLACK_MIB)
        own.add(pid)
    except OSError as error:  # the other limits hold, and serving matters more
        _log.warning("a runner got no cgroup", extra={"pid": pid, "error": str(error)})
        if own is not None:
            own.remove()
        return None
    return own
