"""The models of a device: a worker, an executor and a server for each."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from agent.config import AgentConfig, host_and_port
from agent.core.events import Accepted, Event
from agent.core.model_state import ModelState
from agent.core.privacy import stricter, without_figures
from agent.core.reconcile import Plan
from agent.core.slots import InstalledRelease
from agent.core.update_machine import TRANSITIONS
from agent.protocol import telemetry
from agent.protocol.drift import DriftWindow
from agent.protocol.runner import SampleTaken, Statistics, WindowClosed
from agent.protocol.state import Acceptance, Phase, Reason
from agent.service.drift_memory import DriftMemory
from agent.service.drift_news import DriftNews
from agent.service.executor import ModelExecutor
from agent.service.facts import conditions_of
from agent.service.installer import Installer
from agent.service.labels import LabelDesk
from agent.service.mending import Mender
from agent.service.open_windows import OpenWindows
from agent.service.ports import Downloader, StatePort
from agent.service.recorder import TelemetryRecorder
from agent.service.reporting import ModelView, referenced
from agent.service.surroundings import Surroundings
from agent.service.transfers import Transfers
from agent.service.wanted import Wanted
from agent.service.worker import ModelWorker, load_state
from agent.store.artifacts import ArtifactStore
from agent.store.last_good import LastGood
from agent.supervisor.cgroup import Cgroup
from agent.supervisor.device_address import DeviceAddress
from agent.supervisor.errors import AddressError
from agent.supervisor.listeners import ModelListeners
from agent.supervisor.model_server import ModelServer
from agent.supervisor.room import Room
from agent.supervisor.runner_process import RunnerCallbacks, RunnerProcess
from agent.supervisor.serving import RunnerEvent, RunnerEventKind, ServerSettings

log = logging.getLogger(__name__)


SEVERITY: dict[RunnerEventKind, telemetry.Severity] = {
    "runner-died": "error",
    "runner-restarted": "info",
    "gap-began": "warning",
    "gap-ended": "info",
}

ACCEPTABLE = frozenset(phase for phase, event in TRANSITIONS if event is Accepted)

Supervise = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a worker's task and watches it."""


class _Model(Struct, kw_only=True):
    server: ModelServer
    executor: ModelExecutor
    worker: ModelWorker
    task: asyncio.Task[None] | None = None
    window: DriftWindow | None = None
    """The newest of all requests."""
    news: DriftNews = field(default_factory=DriftNews)
    phase: Phase | None = None


class Models:
    """All models of the device; a new one is added when a desired state names it."""

    def __init__(
        self,
        config: AgentConfig,
        state: StatePort,
        artifacts: ArtifactStore,
        installer: Installer,
        recorder: TelemetryRecorder,
        *,
        runtimes: frozenset[str],
        transfers: Transfers | None = None,
        wanted: Callable[[], Wanted],
        pinned: Callable[[], frozenset[str]] = frozenset,
        changed: Callable[[], None],
        clock: Callable[[], float],
        boot: str,
        cgroup: Cgroup | None = None,
        downloader: Downloader | None = None,
        last_good: LastGood | None = None,
        sampled: Callable[[SampleTaken], None] | None = None,
        labels: LabelDesk | None = None,
        open_windows: OpenWindows | None = None,
        drift_memory: DriftMemory | None = None,
    ) -> None:
        """``downloader`` and ``last_good``: for what the disk loses; None: it is not brought back."""
        self._labels = labels
        self._config = config
        self._sampled = sampled
        self._open_windows = open_windows
        self._drift_memory = drift_memory or DriftMemory()
        self._cgroup = cgroup
        self._room = Room()
        self._state = state
        self._artifacts = artifacts
        self._installer = installer
        self._recorder = recorder
        self._wanted = wanted
        self._pinned = pinned
        self._changed = changed
        self._clock = clock
        self._boot = boot
        self._models: dict[str, _Model] = {}
        self._address: DeviceAddress | None = None
        self._around = Surroundings(
            config=config,
            artifacts=artifacts,
            runtimes=runtimes,
            transfers=transfers or Transfers(),
            recorder=recorder,
            collect=self._collect,
            changed=changed,
            clock=clock,
            conditions=conditions_of(config),
            order=lambda name, deployment: self._wanted().order(self._models[name].worker.state, deployment),
            mender=None
            if downloader is None or last_good is None
            else Mender(
                artifacts,
                downloader,
                last_good,
                state=lambda name: self.states().get(name),
                assignments=lambda: self._wanted().assignments,
                withdrawn=lambda name: self._wanted().withdrawn.get(name, ()),
            ),
        )

    async def add(self, names: Iterable[str], supervise: Supervise) -> None:
        """Open the sockets of each new model and start its worker.

        Raises:
            AddressError: addresses can't be listened on (the first one's); every other model has been added.
        """
        new = sorted(set(names) - set(self._models))
        problems: list[AddressError] = []
        try:
            await self._open_address()
        except AddressError as error:
            problems.append(error)
        alone = len(self._models) + len(new) == 1
        for name in new:
            try:
                await self._open(name, alone=alone)
            except AddressError as error:
                problems.append(error)
        if self._address is not None:
            await self._address.share({name: model.server for name, model in self._models.items()})
        # Only now: a worker may collect artifacts at once, and must know by then what every other model needs.
        for model in self._models.values():
            if model.task is None:
                model.task = supervise(model.worker.run())
        if problems:
            raise problems[0]

    async def _open_address(self) -> None:
        serving = self._config.serving
        if self._address is None and serving.address is not None:
            self._address = await DeviceAddress.open(
                host_and_port(serving.address),
                tls=serving.tls_files,
                hosts=serving.hosts,
                maximum_body_bytes=serving.maximum_body_bytes,
                on_front_death=self._front_died,
            )

    async def _listen(self, name: str, *, alone: bool) -> ModelListeners:
        """A model's sockets; the device's address belongs to its only model."""
        runtime = self._config.runtime
        tcp = self._address.take() if alone and self._address is not None else None
        try:
            return await ModelListeners.open(
                name,
                unix_path=runtime / "models" / f"{name}.sock",
                private_folder=runtime / "private",
                tcp=tcp,
                group=self._config.serving.socket_group,
                access=self._config.serving.access(name),
            )
        except AddressError:
            if tcp is not None and self._address is not None:
                self._address.give_back(tcp)
            raise

    async def _open(self, name: str, *, alone: bool) -> None:
        listeners = await self._listen(name, alone=alone)
        server = ModelServer(
            listeners,
            settings=ServerSettings(
                load_timeout_seconds=self._config.serving.load_timeout_seconds,
                drain_seconds=self._config.serving.drain_seconds,
                memory_reserve_mib=self._config.serving.memory_reserve_mib,
                allow_gap=self._config.serving.allow_gap,
            ),
            callbacks=RunnerCallbacks(
                drift_states=self._drift_memory.states,
                sample=self._sampled,
                window=self._window,
                window_open=None if self._open_windows is None else self._open_windows.seen,
                statistics=self._answered,
                predicted=None if self._labels is None else self._labels.predicted,
                labels=None if self._labels is None else self._labels.given,
            ),
            on_event=self._runner_event,
            cgroup=self._cgroup,
            room=self._room,
        )
        server.start(f"model {name}: no release is committed on this device yet")
        executor = ModelExecutor(server, self._installer, self._around)
        worker = ModelWorker(
            await load_state(self._state, name),
            self._state,
            executor,
            boot=self._boot,
            clock=self._clock,
            decide=lambda state: self._wanted().next_event(state),
            changed=lambda: self._moved(name),
        )
        phase = worker.state.phase
        self._models[name] = _Model(server=server, executor=executor, worker=worker, phase=phase)

    def reconsider(self) -> None:
        """Something that decisions depend on has changed."""
        for model in self._models.values():
            model.worker.reconsider()
            model.executor.gate.reconsider()

    def post(self, name: str, event: Event) -> None:
        """Hand an event to a model's worker."""
        self._models[name].worker.post(event)

    async def accept(self, name: str, *, by: str, now: bool) -> bool:
        """A person lets the deployment that is being fetched or waits be installed; durable when this returns.

        False: there is none, or it went on by itself meanwhile.
        """
        model = self._models[name]
        deployment = model.worker.state.deployment
        if deployment is None or deployment.phase not in ACCEPTABLE:
            return False
        acceptance = Acceptance(by=by, at=self._clock(), now=now)
        if not await model.worker.accept(Accepted(deployment=deployment.deployment, acceptance=acceptance)):
            return False
        at_once = ", to be installed at once" if now else ""
        await self._recorder.record(
            telemetry.Event(
                time=acceptance.at,
                severity="info",
                kind="accepted",
                text=f"release {deployment.release} was accepted on the device by {by}{at_once}",
                model=name,
                release=deployment.release,
                deployment=deployment.deployment,
            )
        )
        return True

    def remember(self, windows: Iterable[DriftWindow]) -> None:
        """Newest windows from before the start."""
        for window in windows:
            if window.model in self._models:
                self._models[window.model].window = window
                self._models[window.model].news.remember(window)

    def states(self) -> dict[str, ModelState]:
        return {name: model.worker.state for name, model in self._models.items()}

    def installed(self, model: str) -> tuple[InstalledRelease, ...]:
        """Releases of ``model`` whose files are kept."""
        found = self._models.get(model)
        if found is None:
            return ()
        slots = found.worker.state.slots
        return tuple(each for each in (slots.active, slots.candidate, slots.previous) if each is not None)

    def plan(self) -> Plan:
        """What is meant to happen to every model, and why."""
        waiting = {
            name: model.executor.waiting
            for name, model in self._models.items()
            if model.executor.waiting is not None
        }
        return self._wanted().plan(self.states(), waiting)

    def views(self) -> list[ModelView]:
        """Every model as it stands now, by name."""
        return [
            ModelView(
                state=model.worker.state,
                runner=model.server.active,
                ready=model.server.ready,
                progress=model.executor.progress,
                address=self._config.serving.address or f"unix:{model.server.listeners.unix_path}",
                window=model.window,
                verdict=model.executor.serving.verdict,
                degraded=model.executor.serving.degraded,
                waiting=model.executor.waiting,
            )
            for name, model in sorted(self._models.items())
        ]

    @property
    def fetching(self) -> bool:
        """Whether bytes are on their way, so that progress is worth reporting."""
        return any(model.worker.state.phase is Phase.FETCHING for model in self._models.values())

    async def stop(self) -> None:
        """End every runner (their open windows are recorded first) and close the sockets."""
        await asyncio.gather(*(model.executor.close() for model in self._models.values()))
        if self._address is not None:
            await self._address.close()
        await asyncio.gather(*(model.server.stop() for model in self._models.values()))

    async def _collect(self) -> None:
        async with self._around.collecting:
            keep = referenced(self.states())
            try:
                removed = await asyncio.to_thread(self._artifacts.remove_unreferenced, keep | self._pinned())
            except OSError:
                log.exception("artifacts not collected; the next collection tries again")
                return
        if removed:
            log.info("artifacts collected", extra={"artifacts": removed})

    def _moved(self, name: str) -> None:
        """A model's state was persisted: say where its deployment stands, once a phase."""
        self._changed()
        model = self._models.get(name)
        if model is None:
            return
        deployment = model.worker.state.deployment
        if deployment is None or deployment.phase is model.phase:
            return
        model.phase = deployment.phase
        why = "" if deployment.reason is None else f": {deployment.reason.text}"
        self._recorder.record_soon(
            telemetry.Event(
                time=self._clock(),
                severity="info",
                kind="deployment",
                text=f"release {deployment.release} is {deployment.phase.value}{why}",
                model=deployment.model,
                release=deployment.release,
                deployment=deployment.deployment,
            )
        )

    def _answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        model = self._models.get(runner.spec.model)
        if model is not None:
            model.executor.answered(runner, statistics)

    def _window(self, message: WindowClosed) -> None:
        if self._open_windows is not None:
            self._open_windows.closed(message.window)
        window = message.window if self._labels is None else self._labels.seen(message.window)
        self._drift_memory.seen(window, message.drift_state)
        self._recorder.record_soon(replace(message, window=window))
        model = self._models.get(window.model)
        if model is None:
            return
        if window.slice is None:  # what serves is judged by all that it answers
            policy = stricter(self._config.privacy.policy, message.privacy)
            model.executor.window(without_figures(window, policy))  # its words may end in a report
            model.window = window
        self._changed()
        for event in model.news.of(window, self._clock()):
            self._recorder.record_soon(event)

    def _front_died(self, reason: Reason) -> None:
        self._recorder.record_soon(
            telemetry.Event(time=self._clock(), severity="error", kind=reason.code, text=reason.text)
        )

    def _runner_event(self, event: RunnerEvent) -> None:
        model = self._models.get(event.spec.model)
        if model is not None:
            model.executor.runner_event(event)
        loop = f", {event.crashes} times in a row" if event.looping else ""
        self._recorder.record_soon(
            telemetry.Event(
                time=self._clock(),
                severity=SEVERITY[event.kind],
                kind=event.kind,
                text=f"{event.reason.text}{loop}",
                model=event.spec.model,
                release=event.spec.release,
                deployment=event.spec.deployment,
            )
        )
        self._changed()
