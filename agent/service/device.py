"""The device: the parts at work together, from the first socket to the last record."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.config import AgentConfig
from agent.core.judgement import Choice, choose_variant
from agent.core.trusted_time import trusted_time
from agent.protocol import telemetry
from agent.protocol.codec import encode_json
from agent.protocol.ledger import Traffic
from agent.protocol.manifest import Manifest
from agent.protocol.state import Command, DesiredState, Reason, ReportedState
from agent.protocol.telemetry import Health, TelemetryAck
from agent.protocol.topics import Channel
from agent.protocol.verification import UNKNOWN_MODEL, FetchedMetadata, VerifiedAssignment, VerifyResult
from agent.service.bundle_copy import BundleCopier
from agent.service.bundles import Bundles
from agent.service.control_server import ControlServer
from agent.service.desired import DesiredKeeper, TrustPort, Verify
from agent.service.hold import Hold, load_hold
from agent.service.installer import Installer
from agent.service.memory import STATE_DAMAGED, Memory, RescuedState
from agent.service.models import Models
from agent.service.patching import PatchingDownloader
from agent.service.receipts import ReceiptWriter
from agent.service.recorder import TelemetryRecorder
from agent.service.reporting import deployment_reports, installed_releases, serving_report
from agent.service.technician import Technician
from agent.service.telemetry_sync import TelemetrySync
from agent.service.trust_watch import TrustWatch
from agent.service.upkeep import Upkeep
from agent.service.wanted import Wanted
from agent.service.ways import open_ways
from agent.store.artifacts import ArtifactStore
from agent.store.events import EventLog
from agent.store.ledger import FLUSH_SECONDS, Ledger
from agent.store.outbox import Outbox
from agent.store.state import StateStore
from agent.store.windows import WindowLog
from agent.supervisor.cgroup import Cgroup
from agent.supervisor.errors import AddressError
from agent.transport.blocks import BlockClient
from agent.transport.errors import BusyError, NoAnswerError, TransferError, TransportError
from agent.transport.mqtt import MqttLink

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.2
"""Changes within this time make one report."""
PROGRESS_SECONDS = 2.0
"""Interval of reports while a release is being fetched."""
STATE_PREFIX = "model/"


class Parts(Struct, frozen=True, kw_only=True):
    """Everything a device is made of, open and ready (:mod:`agent.daemon` makes them)."""

    config: AgentConfig
    version: str
    boot: str
    link: MqttLink
    outbox: Outbox
    events: EventLog
    ledger: Ledger
    windows: WindowLog
    memory: Memory
    runtimes: frozenset[str]
    verify: Verify
    receipts: ReceiptWriter
    health: Callable[[], Health]
    cgroup: Cgroup | None = None
    """Where each runner gets a cgroup of its own, if the service manager has handed one over."""
    authority: Path | None = None
    """PEM of the hub's authority, for what is fetched over HTTPS."""
    clock: Callable[[], float]

    @property
    def state(self) -> StateStore | RescuedState:
        return self.memory.state

    @property
    def trust(self) -> TrustPort:
        return self.memory.trust

    @property
    def artifacts(self) -> ArtifactStore:
        return self.memory.artifacts


class Device:
    """Runs until it is told to stop."""

    def __init__(self, parts: Parts, hold: Reason | None) -> None:
        self._parts = parts
        config = parts.config
        self._changed = asyncio.Event()
        self._sequence = 0
        self._errors: Counter[str] = parts.link.errors
        self._traffic: tuple[Traffic, ...] = ()
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
        self._hold = Hold(hold, parts.state, self._recorder, clock=parts.clock, changed=self._reconsider)
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
                brought=self._bundles.brought,
            ),
            changed=self._model_changed,
            clock=parts.clock,
            boot=parts.boot,
            cgroup=parts.cgroup,
            downloader=self._downloader,
            last_good=parts.memory.last_good,
        )
        self._upkeep = Upkeep(
            parts.memory,
            parts.outbox,
            parts.windows,
            parts.ledger,
            self._recorder,
            clock=parts.clock,
            changed=self._changed.set,
        )
        self._sync = TelemetrySync(parts.outbox, parts.link, interval=config.telemetry.send_seconds)
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
            parts.windows,
            self._bundles,
            parts.ledger,
            report=self._report,
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
                await self._models.add(await self._known_models(), self._supervise)
                self._models.remember(await self._upkeep.known_windows())
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
            self._sync.run(self._settled),
            self._keep_models(),
            self._keep_reporting(),
            self._keep_sampling_health(),
            self._parts.ledger.run(),
            self._upkeep.run(),
            self._keep_accounting(),
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
        link.on(DesiredState, self._desired.take)
        link.on(TelemetryAck, self._acknowledge)
        link.on(Command, lambda _: self._sync_now())
        link.on_connect(self._greet)

    async def _greet(self) -> None:
        """The link is up: the hub may have missed anything, so say everything again."""
        await self._publish_report()
        self._sync.wake()
        self._desired.again()
        self._downloader.wake()

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

    async def _keep_reporting(self) -> None:
        while True:
            longest = self._parts.config.telemetry.report_seconds
            interval = min(PROGRESS_SECONDS, longest) if self._models.fetching else longest
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    interval
                ):  # not wait_for: before 3.12 it may swallow a cancellation
                    await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            if self._parts.link.is_connected:
                try:
                    await self._publish_report()
                except TransportError as error:
                    log.info("report not published", extra={"why": str(error)})
                except (
                    Exception
                ):  # too large, or a store that fails: the next one may be better, and models serve on
                    self._count("report-failed")
                    log.exception("report not made")

    async def _keep_sampling_health(self) -> None:
        while True:
            try:
                await self._recorder.record(await asyncio.to_thread(self._parts.health))
            except Exception:  # a sensor or a mount that went away is no reason to stop serving
                self._count("health-not-sampled")
                log.exception("health not sampled")
            await asyncio.sleep(self._parts.config.telemetry.health_seconds)

    async def _keep_accounting(self) -> None:
        """Tell the hub what was spent this month; seldom, because asking the ledger writes it to the disk."""
        while True:
            try:
                spent = (await self._parts.ledger.report()).traffic
            except Exception:  # a store that fails is no reason to stop serving
                self._count("ledger-not-read")
                log.exception("ledger not read")
            else:
                self._traffic = tuple(each for each in spent if each.month == spent[0].month)
                self._changed.set()
            await asyncio.sleep(FLUSH_SECONDS)

    async def _publish_report(self) -> None:
        await self._parts.link.publish(Channel.REPORTED, encode_json(await self._report()))

    async def _report(self) -> ReportedState:
        self._sequence += 1
        config, now = self._parts.config, self._parts.clock()
        views = self._models.views()
        serving = await asyncio.to_thread(lambda: [serving_report(view) for view in views])
        return ReportedState(
            device=config.device.id,
            agent_version=self._parts.version,
            hardware_class=config.device.hardware_class,
            boot=self._parts.boot,
            sequence=self._sequence,
            time=now,
            held=self._hold.reason is not None and self._hold.reason.code != STATE_DAMAGED,
            inference_address=config.serving.address,
            serving=tuple(report for report in serving if report is not None),
            deployments=deployment_reports(views, self._models.plan(), now),
            outbox=await self._upkeep.outbox_report(),
            errors=dict(sorted(self._errors.items())),
            traffic=self._traffic,
            refusal=self._desired.refusal,
            trust=self._trust.report(),
            problems=self._parts.memory.problems(),
        )

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
