"""One whole update of a device through its real stores, worker and machine, without a network and without a runner.

``python -m tests.fault.power.update`` forks one such device for each order on standard input, so that a point of a sweep costs
a tenth of a second. A device waits for SIGUSR1 before it begins, and (``pause``) after each state that it has persisted.
Everything that writes durably does so on one thread: then a tracer's count of calls is the device's.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
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
from agent.core.events import (
    Activated,
    BytesLost,
    Event,
    Fetched,
    FetchFailed,
    Permitted,
    ProbationPassed,
    ProbePassed,
    Reported,
    RolledBack,
)
from agent.core.judgement import Choice, choose_variant
from agent.core.model_state import ModelState
from agent.core.reconcile import reconcile
from agent.errors import ReleaseError
from agent.protocol import telemetry
from agent.protocol.ids import Digest
from agent.protocol.manifest import Manifest
from agent.protocol.state import Measurement, Phase, Reason, Way
from agent.protocol.verification import Mark, VerifiedAssignment, VerifyResult
from agent.service import recorder as recorder_module
from agent.service import worker as worker_module
from agent.service.downloads import ArtifactDownloader
from agent.service.installer import Installer
from agent.service.memory import open_memory
from agent.service.patching import PatchingDownloader
from agent.service.recorder import TelemetryRecorder
from agent.service.reporting import referenced
from agent.service.worker import ModelWorker, load_state
from agent.store import keeper as keeper_module
from agent.store.artifacts import ArtifactStore
from agent.store.events import EventLog
from agent.store.ledger import Ledger
from agent.store.outbox import Outbox
from agent.store.writer import Writer
from agent.transport.sources import ByteWriter

MODEL, DEVICE, HARDWARE_CLASS = "digits", "cam-1", "cpu-test"
BLOCK_BYTES = 64 * 1024
QUICK = (0.01, 0.01, 0.01, 0.01, 0.01)
HUB_TIME = 1_795_900_000.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a forked device is to do."""

    folder: str
    """Its state."""
    releases: str
    """Folder with ``<digest>`` of each file, and ``<release>.json``: the verified assignment."""
    release: int
    pause: bool = False


class FolderSource:
    """Artifacts from a folder, block by block."""

    way: Way = "mqtt"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        with (self._folder / digest).open("rb") as file:
            while writer.offset < size:
                file.seek(writer.offset)
                await writer.append(file.read(BLOCK_BYTES))


class Executor:
    """The commands, as far as they touch the disk."""

    def __init__(self, installer: Installer, artifacts: ArtifactStore, recorder: TelemetryRecorder) -> None:
        self._installer = installer
        self._artifacts = artifacts
        self._recorder = recorder
        self.states: Callable[[], dict[str, ModelState]] = dict

    async def fetch(self, command: FetchRelease) -> Event:
        try:
            candidate = await self._installer.install(command.assignment, command.tried, lambda _a, _b: None)
        except ReleaseError as error:
            return FetchFailed(deployment=command.deployment, reason=error.reason)
        return Fetched(deployment=command.deployment, candidate=candidate)

    async def permit(self, command: AwaitPermission) -> Event:
        for digest in command.candidate.files:
            if not await asyncio.to_thread(self._artifacts.verify, digest):
                reason = Reason(code="artifact-damaged", text="lost")
                return BytesLost(deployment=command.deployment, reason=reason)
        return Permitted(deployment=command.deployment)

    async def probe(self, command: ProbeCandidate) -> Event:
        measurement = Measurement(
            variant=command.candidate.variant,
            artifact=command.candidate.artifact,
            size_bytes=1,
            p50_ms=1.0,
            p99_ms=1.0,
            peak_memory_mib=1.0,
            golden_max_error=0.0,
            golden_class_agreement=1.0,
            budget_p99_ms=1.0,
            budget_memory_mib=1.0,
        )
        return ProbePassed(deployment=command.deployment, measurement=measurement)

    async def activate(self, command: ActivateCandidate) -> Event:
        return Activated(deployment=command.deployment)

    async def watch(self, command: WatchProbation) -> Event:
        return ProbationPassed(deployment=command.deployment)

    async def commit(self, _command: CommitRelease) -> None:
        await self._collect()

    async def restore(self, command: RestorePrevious) -> Event:
        return RolledBack(deployment=command.deployment)

    async def discard(self, _command: DiscardCandidate) -> None:
        await self._collect()

    async def report(self, command: ReportOutcome | ReportReversal) -> Event:
        outcome = command.outcome if isinstance(command, ReportOutcome) else Phase.ROLLED_BACK
        event = telemetry.Event(
            time=time.time(),
            severity="info",
            kind="deployment-outcome",
            text=f"release {command.release} {outcome.value}",
            model=MODEL,
            release=command.release,
            deployment=command.deployment,
        )
        await self._recorder.record_once(event)
        return Reported(deployment=command.deployment)

    async def serve(self, command: ServeActive) -> None:
        """Nobody asks."""

    async def _collect(self) -> None:
        with contextlib.suppress(OSError):  # as the service does: the next one tries again
            await asyncio.to_thread(self._artifacts.remove_unreferenced, referenced(self.states()))


async def update(order: Order, persisted: Callable[[ModelState], None] = lambda _state: None) -> ModelState:
    """Start the device, let it recover and follow the order to its end, stop it; returns its model's state."""
    worker_module.RETRY_SECONDS = recorder_module.RETRY_SECONDS = keeper_module.RETRY_SECONDS = QUICK
    folder, releases = Path(order.folder), Path(order.releases)
    writer = Writer()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(writer._executor)
    stack = contextlib.AsyncExitStack()
    artifacts = ArtifactStore(folder / "artifacts", quota_bytes=2**30)
    memory = await open_memory(folder, artifacts, _prepared, stack, writer=writer)
    keeping = asyncio.create_task(memory.keeper.run(_back))
    state, trust, database = memory.state, memory.trust, memory.database
    outbox = Outbox(database, device=DEVICE, maximum_bytes=2**20)
    recorder = TelemetryRecorder(outbox, EventLog(database), lambda _kind: None)
    ledger = Ledger(database, clock=time.time)
    while True:
        with contextlib.suppress(OSError, Exception):
            await trust.apply(_verified(order.release))
            break
        await asyncio.sleep(QUICK[0])
    text = (releases / f"{order.release}.json").read_bytes()
    assignment = msgspec.json.decode(text, type=VerifiedAssignment)
    downloader = ArtifactDownloader({"mqtt": FolderSource(releases)}, artifacts)
    patching = PatchingDownloader(downloader, artifacts, lambda *_what: None)
    executor = Executor(Installer(patching, _choose), artifacts, recorder)
    done = asyncio.Event()

    def changed() -> None:
        persisted(worker.state)
        deployment = worker.state.deployment
        if deployment is not None and deployment.final:
            ledger.ended(deployment.deployment)
            ours = deployment.deployment == assignment.assignment.deployment
            if ours and not deployment.report_pending:
                done.set()
        elif deployment is not None:
            ledger.began(deployment.deployment, MODEL, deployment.release)

    worker = ModelWorker(
        await load_state(state, MODEL),
        state,
        executor,
        clock=time.time,
        boot=secrets.token_hex(8),
        decide=lambda known: _decide(assignment, known),
        changed=changed,
    )
    executor.states = lambda: {MODEL: worker.state}
    running = asyncio.create_task(worker.run())
    await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with contextlib.suppress(Exception):
        await ledger.flush()
    keeping.cancel()
    await stack.aclose()
    return worker.state


async def _prepared() -> str | None:
    """The schema is there: a device migrates in another process, whose power cuts tests/unit/store looks at."""
    return None


async def _back(_note: str | None) -> None:
    """Nobody is told."""


def _verified(release: int) -> VerifyResult:
    """What the verifier says to store of a repository that has grown with the release."""
    return VerifyResult(
        metadata={name: f"{name} {release}".encode() * 50 for name in ("timestamp.json", "snapshot.json")},
        marks=(Mark(role="timestamp", keys="k", version=release),),
        hub_time=HUB_TIME + release,
    )


def _choose(manifest: Manifest, assignment: VerifiedAssignment, tried: tuple[str, ...]) -> Choice | Reason:
    return choose_variant(
        manifest,
        runtimes=frozenset({"onnx"}),
        hardware_class=HARDWARE_CLASS,
        policy=assignment.assignment.variant_policy,
        tried=tried,
    )


def _decide(assignment: VerifiedAssignment, state: ModelState) -> Event | None:
    plan = reconcile([assignment], [], {MODEL: state}, hold=None)
    return next((step.event for step in plan.steps if step.event is not None), None)


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _pause(state: ModelState) -> None:
    deployment = state.deployment
    _say(at=None if deployment is None else [deployment.phase.value, deployment.report_pending])
    signal.sigwait({signal.SIGUSR1})


def main() -> None:
    """Fork a device for each line of standard input."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    for line in sys.stdin:
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            signal.sigwait({signal.SIGUSR1})
            status = 1
            try:
                asyncio.run(update(order, _pause) if order.pause else update(order))
                status = 0
            finally:
                os._exit(status)
        _say(pid=pid)
        _, status = os.waitpid(pid, 0)
        _say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
