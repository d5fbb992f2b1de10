"""The device: the parts at work together, from the first socket to the last record."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from agent.core.judgement import Choice, choose_variant
from agent.core.sending import Pace
from agent.core.trusted_time import trusted_time
from agent.protocol import telemetry
from agent.protocol.envelope import Envelope
from agent.protocol.labels import LabelDelivery
from agent.protocol.manifest import Manifest
from agent.protocol.state import Command, DesiredState, Reason
from agent.protocol.telemetry import TelemetryAck
from agent.protocol.verification import UNKNOWN_MODEL, FetchedMetadata, VerifiedAssignment, VerifyResult
from agent.service.bundle_copy import BundleCopier
from agent.service.bundles import Bundles
from agent.service.control_server import ControlServer
from agent.service.desired import DesiredKeeper
from agent.service.drift_memory import DriftMemory
from agent.service.drift_reports import DriftReports
from agent.service.facts import is_metered
from agent.service.hold import Hold, load_hold
from agent.service.installer import Installer
from agent.service.label_line import LabelLine
from agent.service.labels import LabelDesk
from agent.service.models import Models
from agent.service.open_windows import OpenWindows
from agent.service.parts import Parts
from agent.service.patching import PatchingDownloader
from agent.service.recorder import TelemetryRecorder
from agent.service.reporter import Reporter
from agent.service.reporting import deployment_reports, installed_releases
from agent.service.sample_desk import SampleDesk, sample_ring
from agent.service.sample_keeping import SampleKeeper
from agent.service.sample_requests import SampleRequests
from agent.service.technician import Technician
from agent.service.telemetry_budget import TelemetryBudget, monthly_budget
from agent.service.telemetry_sync import TelemetrySync
from agent.service.trust_watch import TrustWatch
from agent.service.upkeep import Upkeep
from agent.service.wanted import Wanted
from agent.service.ways import open_ways
from agent.supervisor.errors import AddressError
from agent.transport.blocks import BlockClient
from agent.transport.errors import BusyError, NoAnswerError, TransferError

log = logging.getLogger(__name__)

STATE_PREFIX = "model/"


class Device:
    """Runs until it is told to stop."""

    def __init__(self, parts: Parts, hold: Reason | None) -> None:
        self._parts = parts
        config = parts.config
        self._changed = asyncio.Event()
        self._errors: Counter[str] = parts.link.errors
        ways = open_ways(
            config.transfer,
            parts.link,
            parts.artifacts,
            parts.ledger,
            authority=parts.authority,
            now=lambda: trusted_time(parts.clock(), parts.memory.trust.hub_time),
        )
        self._downloader = ways.downloader
        self._recorder = TelemetryRecorder(parts.outbox, parts.events, self._count)
        self._open_windows = OpenWindows(parts.open_windows, config.telemetry.checkpoint_seconds, self._count)
        self._hold = Hold(hold, parts.state, self._recorder, clock=parts.clock, changed=self._reconsider)
        self._samples = SampleKeeper(
            config.samples, sample_ring(config), clock=parts.clock, count=self._count
        )
        self._labels = LabelDesk(
            config.labels,
            parts.predictions,
            parts.outbox,
            self._recorder,
            clock=parts.clock,
            count=self._count,
        )
        self._desired = DesiredKeeper(
            config.device.id,
            parts.trust,
            parts.verify,
            _metadata_fetcher(ways.blocks),
            changed=self._reconsider,
            count=self._count,
            installed=lambda: installed_releases(self._models.states()),
            clock=parts.clock,
        )
        self._trust = TrustWatch(self._desired.facts, self._recorder, changed=self._changed.set)
        self._drift_memory = DriftMemory()
        self._models = Models(
            config,
            parts.state,
            parts.artifacts,
            Installer(
                PatchingDownloader(self._downloader, parts.artifacts, self._tell_of_patch), self._choose
            ),
            self._recorder,
            runtimes=parts.runtimes,
            transfers=ways.transfers,
            pinned=lambda: self._bundles.pinned,
            wanted=lambda: Wanted(
                verified=self._desired.verified,
                hold=self._hold.reason,
                expired=self._desired.expired,
                unverified=self._desired.unverified,
                brought=self._bundles.brought,
            ),
            changed=self._model_changed,
            clock=parts.clock,
            boot=parts.boot,
            cgroup=parts.cgroup,
            downloader=self._downloader,
            last_good=parts.memory.last_good,
            sampled=self._samples.take,
            labels=self._labels,
            open_windows=self._open_windows,
            drift_memory=self._drift_memory,
        )
        self._label_line = LabelLine(self._labels, parts.link, known=self._models.states, count=self._count)
        budget = TelemetryBudget(parts.ledger, monthly_budget(config.telemetry), clock=parts.clock)
        self._upkeep = Upkeep(
            parts.memory,
            parts.outbox,
            budget,
            parts.windows,
            parts.ledger,
            self._recorder,
            clock=parts.clock,
            changed=self._changed.set,
        )
        self._reporter = Reporter(
            parts,
            self._models,
            self._desired,
            self._hold,
            self._trust,
            self._upkeep,
            errors=self._errors,
            changed=self._changed,
        )
        metered = config.updates.metered_interfaces
        self._sync = TelemetrySync(
            parts.outbox,
            parts.link,
            pace=Pace(urgent=config.telemetry.send_seconds, others=config.telemetry.gather_seconds),
            budget=budget,
            metered=lambda: asyncio.to_thread(is_metered, metered),
            clock=parts.clock,
        )
        parts.outbox.appended = self._sync.appended
        parts.windows.unreadable = self._count
        self._sample_requests = SampleRequests(
            config.samples,
            self._samples,
            parts.outbox,
            parts.sample_ledger,
            parts.state,
            self._recorder,
            self._desired.check_samples,
            clock=parts.clock,
            trusted=lambda: trusted_time(parts.clock(), parts.memory.trust.hub_time),
            count=self._count,
            wake=self._sync.wake,
        )
        self._bundles = Bundles(
            config.device.id,
            self._desired,
            parts.trust,
            BundleCopier(self._downloader, parts.artifacts, self._choose),
            parts.state,
            self._recorder,
            states=self._models.states,
            reports=lambda: deployment_reports(self._models.views(), self._models.plan(), parts.clock()),
            write_receipt=parts.receipts.write,
            supervise=self._supervise_once,
            clock=parts.clock,
            count=self._count,
        )
        technician = Technician(
            self._models,
            self._desired,
            self._hold,
            parts.events,
            DriftReports(parts.windows, parts.artifacts, self._models.installed, self._labels.report),
            self._bundles,
            budget,
            SampleDesk(
                config.samples, self._samples, parts.outbox, parts.sample_ledger, self._recorder, parts.clock
            ),
            self._labels,
            report=self._reporter.report,
            connected=lambda: parts.link.is_connected,
            link_problem=lambda: parts.link.last_problem,
            sync=self._sync_now,
        )
        self._control = ControlServer(config.control_socket, technician, self._count)
        self._reconsidered = asyncio.Event()
        self._workers: list[asyncio.Task[None]] = []
        self._start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = asyncio.create_task

    @classmethod
    async def assemble(cls, parts: Parts) -> "Device":
        """A device as it was when it stopped."""
        device = cls(parts, await load_hold(parts.state))
        await device._bundles.load()
        await device._samples.load()
        return device

    async def run(self, stop: asyncio.Event) -> None:
        """Serve, reconcile, report until ``stop`` is set; then end every runner and say goodbye.

        Raises:
            AddressError: an inference address can't be listened on (in an ``ExceptionGroup``).
            OSError: the control socket can't be bound.
        """
        self._take_messages()
        await self._control.start()
        recording = asyncio.create_task(self._recorder.run())
        try:
            async with asyncio.TaskGroup() as group:
                self._start = group.create_task
                tasks = [group.create_task(loop) for loop in self._loops()]
                await self._upkeep.close_left_open()
                self._drift_memory.load(await self._upkeep.known_drift_states())
                await self._models.add(await self._known_models(), self._supervise)
                known = await self._upkeep.known_windows()
                self._models.remember(known)
                self._labels.remember(known)
                await self._announce()
                await self._parts.link.start()
                await stop.wait()
                log.info("stopping")
                for task in (*tasks, *self._workers):
                    task.cancel()
        finally:
            # In this order, also after a failure: nobody decides any more (a worker would take the end of its runner
            # for the release's fault), runners hand over their open windows, what is left is recorded.
            await self._control.close()
            await self._models.stop()
            await self._labels.finish()
            recording.cancel()
            await asyncio.wait((recording,))
            await self._parts.link.stop()

    def _supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A worker that fails ends the device, so that the service manager starts it anew from what is persisted."""
        task = self._start(work)
        self._workers.append(task)
        return task

    def _supervise_once(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """As :meth:`_supervise`, for what ends by itself."""
        task = self._supervise(work)
        task.add_done_callback(self._workers.remove)
        return task

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        return [
            self._desired.run(),
            self._trust.run(),
            self._bundles.run(),
            self._samples.run(),
            self._open_windows.run(),
            self._labels.run(),
            self._label_line.run(),
            self._sample_requests.run(),
            self._sample_requests.fulfil(),
            self._sync.run(self._settled),
            self._keep_models(),
            self._reporter.run(),
            self._keep_sampling_health(),
            self._parts.ledger.run(),
            self._upkeep.run(),
            self._reporter.keep_accounting(),
        ]

    async def _known_models(self) -> set[str]:
        stored = await self._parts.state.get_all(STATE_PREFIX)
        return {key.removeprefix(STATE_PREFIX) for key in stored}

    async def _announce(self) -> None:
        notes = "".join(f"; {note}" for note in self._parts.memory.notes)
        await self._recorder.record(
            telemetry.Event(
                time=self._parts.clock(),
                severity="warning" if notes else "info",
                kind="agent-started",
                text=f"Edgeward {self._parts.version} started{notes}",
            )
        )

    def _take_messages(self) -> None:
        link = self._parts.link
        link.on(DesiredState, self._take_desired)
        link.on(TelemetryAck, self._acknowledge)
        link.on(LabelDelivery, self._label_line.take)
        link.on(Command, lambda _: self._sync_now())
        link.on(Envelope, self._sample_requests.take)
        link.on_connect(self._greet)

    async def _greet(self) -> None:
        """The link is up: the hub may have missed anything, so say everything again."""
        await self._reporter.publish()
        self._sync.wake()
        self._desired.again()
        self._downloader.wake()

    def _take_desired(self, state: DesiredState) -> None:
        self._desired.take(state)
        self._sync.heard()

    def _acknowledge(self, ack: TelemetryAck) -> None:
        self._supervise_once(self._take_acknowledgement(ack))

    async def _take_acknowledgement(self, ack: TelemetryAck) -> None:
        try:
            await self._sync.acknowledge(ack)
        except Exception:  # the records stay and are sent again; serving does not depend on it
            self._count("acknowledgement-failed")
            log.exception("acknowledgement not taken", extra={"epoch": ack.epoch})

    def _sync_now(self) -> None:
        self._desired.again()
        self._sync.wake()
        self._changed.set()

    def _model_changed(self) -> None:
        self._upkeep.account(self._models.states())
        self._changed.set()

    async def _settled(self) -> None:
        self._changed.set()

    def _reconsider(self) -> None:
        """What decisions are made against has changed."""
        self._trust.wake()
        self._reconsidered.set()
        self._changed.set()

    async def _keep_models(self) -> None:
        """Add the models that a desired state names, and have every worker decide anew."""
        while True:
            await self._reconsidered.wait()
            self._reconsidered.clear()
            verified = self._desired.verified
            if verified is not None:
                try:
                    await self._models.add(_models_of(verified), self._supervise)
                except AddressError as error:
                    self._count("model-not-added")
                    log.error("a model can't be added", extra={"why": str(error)})  # noqa: TRY400 - its text says all
            self._models.reconsider()

    async def _keep_sampling_health(self) -> None:
        while True:
            try:
                await self._recorder.record_health(await asyncio.to_thread(self._parts.health))
            except Exception:  # a sensor or a mount that went away is no reason to stop serving
                self._count("health-not-sampled")
                log.exception("health not sampled")
            await asyncio.sleep(self._parts.config.telemetry.health_seconds)

    def _tell_of_patch(
        self, severity: telemetry.Severity, kind: str, text: str, assignment: VerifiedAssignment
    ) -> None:
        if severity != "info":
            self._count(kind)
        self._recorder.record_soon(
            telemetry.Event(
                time=self._parts.clock(),
                severity=severity,
                kind=kind,
                text=text,
                model=assignment.model,
                release=assignment.release,
                deployment=assignment.assignment.deployment,
            )
        )

    def _count(self, kind: str) -> None:
        self._errors[kind] += 1

    def _choose(
        self, manifest: Manifest, assignment: VerifiedAssignment, tried: tuple[str, ...]
    ) -> Choice | Reason:
        choice = choose_variant(
            manifest,
            runtimes=self._parts.runtimes,
            hardware_class=self._parts.config.device.hardware_class,
            policy=assignment.assignment.variant_policy,
            tried=tried,
        )
        if isinstance(choice, Reason) or self._parts.config.serving.keep_standby:
            return choice
        return replace(choice, standby=None)


def _models_of(verified: VerifyResult) -> set[str]:
    """Models that get sockets and a state here: not what the director merely names, which may be any number of names."""
    refused = (each.model for each in verified.refused if each.reason.code != UNKNOWN_MODEL)
    return {*(each.model for each in verified.assignments), *refused}


def _metadata_fetcher(blocks: BlockClient) -> Callable[[str, int], Awaitable[FetchedMetadata]]:
    """What the verifier child may ask for: the hub's metadata, by name."""

    async def fetch(name: str, maximum_bytes: int) -> FetchedMetadata:
        try:
            return FetchedMetadata(data=await blocks.fetch_metadata(name, maximum_bytes))
        except (NoAnswerError, BusyError) as error:
            return FetchedMetadata(data=None, error=str(error))
        except TransferError as error:
            return FetchedMetadata(data=None, fault=str(error))

    return fetch
