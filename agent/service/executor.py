"""Executes one model's commands with the real parts: store, transport, runners."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct, field

from agent.config import AgentConfig
from agent.core.commands import (
    ActivateCandidate,
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
    ActivationFailed,
    Event,
    Fetched,
    FetchFailed,
    ProbationFailed,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RolledBack,
    VariantRejected,
)
from agent.core.judgement import ProbationLevel, choose_variant, judge_probation, judge_probe
from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol import telemetry
from agent.protocol.manifest import Manifest
from agent.protocol.state import Measurement, Phase, Reason
from agent.service.installer import Installer, read_manifest
from agent.service.ports import Recorder
from agent.store.artifacts import ArtifactStore
from agent.supervisor.errors import SupervisorError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.outcomes import ProbeMeasurement
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.serving import RunnerEvent
from agent.supervisor.specs import RunnerSpec

log = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts to start a release that must serve; the last one repeats."""
WORTH_ANOTHER_VARIANT = frozenset(
    {"latency-over-budget", "memory-over-budget", "load-failed", "probe-timeout"}
)
"""A variant refused for what it costs, or because its runtime can't take it, says nothing about the other ones."""


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a device's executors share."""

    config: AgentConfig
    artifacts: ArtifactStore
    runtimes: frozenset[str]
    recorder: Recorder
    collect: Callable[[], Awaitable[None]]
    """Garbage collection over all models."""
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while artifacts are collected; a fetch waits for it, so that nothing it counts on is taken from under it."""
    clock: Callable[[], float]


class ModelExecutor:
    """Executes the update machine's commands for one model."""

    def __init__(self, server: ModelServer, installer: Installer, around: Surroundings) -> None:
        self._server = server
        self._installer = installer
        self._around = around
        self._candidate: RunnerProcess | None = None
        self._deaths: dict[str, Reason] = {}
        self._serving: asyncio.Task[None] | None = None
        self.progress: float | None = None
        """Share of the candidate's bytes that are here, while fetching."""

    def runner_event(self, event: RunnerEvent) -> None:
        """Called when the active runner died or was replaced."""
        if event.kind == "runner-died":
            self._deaths[event.spec.deployment] = event.reason

    async def close(self) -> None:
        """Stop what goes on beside the worker; the server stops its runners itself."""
        await self._give_up_serving()

    async def fetch(self, command: FetchRelease) -> Event:
        async with self._around.collecting:
            pass  # what was begun before this model said that it fetches; a later one knows of it and takes nothing
        try:
            candidate = await self._installer.install(command.assignment, command.tried, self._fetched)
        except ReleaseError as error:
            return FetchFailed(deployment=command.deployment, reason=error.reason)
        finally:
            self.progress = None
        return Fetched(deployment=command.deployment, candidate=candidate)

    def _fetched(self, share: float) -> None:
        self.progress = share

    async def probe(self, command: ProbeCandidate) -> Event:
        candidate = command.candidate
        await self._end_candidate()
        try:
            manifest = await self._manifest(candidate)
            self._candidate = await self._start(candidate, manifest)
            measured = await self._measure(self._candidate, manifest)
        except (SupervisorError, ReleaseError) as error:
            reason = getattr(error, "reason", None) or Reason(code="load-failed", text=str(error))
            return await self._refused(command, reason, None)
        budget = manifest.budgets[self._around.config.device.hardware_class]
        reason_against = judge_probe(measured.report, measured.peak_pss_mib, budget, manifest.golden)
        measurement = _measurement(candidate, manifest, measured, self._around.config.device.hardware_class)
        if reason_against is not None:
            return await self._refused(command, reason_against, measurement)
        return ProbePassed(deployment=command.deployment, measurement=measurement)

    async def _measure(self, runner: RunnerProcess, manifest: Manifest) -> ProbeMeasurement:
        probe = self._around.config.probe
        return await runner.probe(
            self._around.artifacts.path(manifest.golden.artifact.sha256),
            warmup=probe.warmup,
            repetitions=probe.repetitions,
            p99_limit_ms=manifest.budgets[self._around.config.device.hardware_class].p99_ms,
            timeout_seconds=probe.timeout_seconds,
        )

    async def _refused(
        self, command: ProbeCandidate, reason: Reason, measurement: Measurement | None
    ) -> Event:
        # Now, not at the next command: what was stopped to make room for it may come back at once.
        await self._end_candidate()
        if reason.code in WORTH_ANOTHER_VARIANT and self._has_another(command):
            return VariantRejected(deployment=command.deployment, reason=reason)
        return ProbeFailed(deployment=command.deployment, reason=reason, measurement=measurement)

    def _has_another(self, command: ProbeCandidate) -> bool:
        try:
            manifest = read_manifest(self._around.artifacts.path(command.candidate.manifest))
        except (ReleaseError, OSError):
            return False
        choice = choose_variant(
            manifest,
            runtimes=self._around.runtimes,
            hardware_class=self._around.config.device.hardware_class,
            policy=command.candidate.variant_policy,
            tried=(*command.tried, command.candidate.variant),
        )
        return not isinstance(choice, Reason)

    async def activate(self, command: ActivateCandidate) -> Event:
        runner = self._candidate
        if runner is None or runner.spec.deployment != command.deployment:
            text = "the proven candidate is no longer running"
            return ActivationFailed(
                deployment=command.deployment, reason=Reason(code="candidate-gone", text=text)
            )
        self._deaths.pop(command.deployment, None)
        await self._give_up_serving()
        try:
            await self._server.activate(runner)
        except SupervisorError as error:
            reason = getattr(error, "reason", None) or Reason(code="activation-failed", text=str(error))
            return ActivationFailed(deployment=command.deployment, reason=reason)
        self._candidate = None
        return Activated(deployment=command.deployment)

    async def watch(self, command: WatchProbation) -> Event:
        manifest = await self._manifest(command.candidate)
        began = time.monotonic()
        while True:
            died = self._deaths.get(command.deployment)
            if died is not None:
                return ProbationFailed(deployment=command.deployment, reason=died)
            requests, failures = self._counts(command.deployment)
            verdict = judge_probation(
                requests=requests,
                failures=failures,
                elapsed=time.monotonic() - began,
                alive=self._server.ready,
                probation=manifest.probation,
            )
            if verdict.level is ProbationLevel.FAIL:
                return ProbationFailed(deployment=command.deployment, reason=verdict.reason)
            if verdict.level is ProbationLevel.PASS:
                return ProbationPassed(deployment=command.deployment)
            await asyncio.sleep(WATCH_SECONDS)

    def _counts(self, deployment: str) -> tuple[int, int]:
        runner = self._server.active
        if runner is None or runner.spec.deployment != deployment or runner.statistics is None:
            return 0, 0
        return runner.statistics.requests, runner.statistics.failures

    async def commit(self, command: CommitRelease) -> None:
        log.info(
            "release committed", extra={"deployment": command.deployment, "release": command.active.release}
        )
        await self._around.collect()

    async def restore(self, command: RestorePrevious) -> Event:
        await self._end_candidate()
        if command.target is None:
            await self._server.deactivate(f"no release is committed: {command.reason.text}")
        else:
            await self._serve(command.target)
        return RolledBack(deployment=command.deployment)

    async def discard(self, command: DiscardCandidate) -> None:
        await self._end_candidate()
        log.info("candidate discarded", extra={"deployment": command.deployment})
        await self._around.collect()

    async def serve(self, command: ServeActive) -> None:
        await self._serve(command.active)

    async def report(self, command: ReportOutcome | ReportReversal) -> Event:
        outcome = command.outcome if isinstance(command, ReportOutcome) else Phase.ROLLED_BACK
        why = "" if command.reason is None else f": {command.reason.text}"
        event = telemetry.Event(
            time=self._around.clock(),
            severity="info" if outcome in {Phase.COMMITTED, Phase.SUPERSEDED} else "warning",
            kind="deployment-outcome" if isinstance(command, ReportOutcome) else "deployment-reversed",
            text=f"release {command.release} {outcome.value}{why}",
            model=self._server.model,
            release=command.release,
            deployment=command.deployment,
        )
        await self._around.recorder.record_once(event)
        return Reported(deployment=command.deployment)

    async def _serve(self, release: InstalledRelease) -> None:
        """Let ``release`` answer; where it can't start, say why on its address and go on trying beside the worker."""
        await self._give_up_serving()
        active = self._server.active
        if active is not None and active.alive and active.spec.deployment == release.deployment:
            return
        if not await self._try_to_serve(release):
            self._serving = asyncio.create_task(self._serve_later(release), name=f"serve-{release.model}")

    async def _serve_later(self, release: InstalledRelease) -> None:
        waits = iter(RETRY_SECONDS)
        while True:
            await asyncio.sleep(next(waits, RETRY_SECONDS[-1]))
            if await self._try_to_serve(release):
                return

    async def _try_to_serve(self, release: InstalledRelease) -> bool:
        try:
            manifest = await self._manifest(release)
            await self._server.activate(await self._start(release, manifest, essential=True))
        except (SupervisorError, ReleaseError, OSError) as error:
            log.exception("a committed release does not start", extra={"release": release.release})
            await self._server.deactivate(f"release {release.release} does not start: {error}")
            return False
        return True

    async def _give_up_serving(self) -> None:
        task, self._serving = self._serving, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _end_candidate(self) -> None:
        runner, self._candidate = self._candidate, None
        if runner is not None:
            await self._server.discard(runner)

    async def _manifest(self, release: InstalledRelease) -> Manifest:
        return await asyncio.to_thread(read_manifest, self._around.artifacts.path(release.manifest))

    async def _start(
        self, release: InstalledRelease, manifest: Manifest, *, essential: bool = False
    ) -> RunnerProcess:
        """Start a runner for ``release`` on its private socket; its file is hashed again before it is loaded.

        ``essential``: it is committed, so it is never refused for want of memory.
        """
        artifacts, config = self._around.artifacts, self._around.config
        if not await asyncio.to_thread(artifacts.verify, release.artifact):
            text = f"the file of variant {release.variant} is missing or damaged on this device"
            raise ReleaseError(Reason(code="artifact-damaged", text=text))
        budget = manifest.budgets.get(config.device.hardware_class)
        spec = RunnerSpec(
            model=release.model,
            release=release.release,
            deployment=release.deployment,
            variant=release.variant,
            runtime=manifest.variant(release.variant).runtime,
            artifact_path=str(artifacts.path(release.artifact)),
            artifact_sha256=release.artifact,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
            labels=manifest.labels,
            reference_path=str(artifacts.path(manifest.drift_reference.sha256)),
            threads=config.serving.threads,
            default_deadline_ms=config.serving.deadline_ms,
            maximum_body_bytes=config.serving.maximum_body_bytes,
            queue_depth=config.serving.queue_depth,
            shared_memory=config.serving.shared_memory,
            nice=config.serving.nice,
            stuck_seconds=config.serving.stuck_seconds,
            memory_limit_mib=budget.peak_memory_mib if budget is not None else None,
        )
        return await self._server.prepare(spec, essential=essential)


def _measurement(
    candidate: InstalledRelease, manifest: Manifest, measured: ProbeMeasurement, hardware_class: str
) -> Measurement:
    budget = manifest.budgets[hardware_class]
    return Measurement(
        variant=candidate.variant,
        artifact=candidate.artifact,
        size_bytes=manifest.variant(candidate.variant).artifact.size,
        p50_ms=measured.report.p50_ms,
        p99_ms=measured.report.p99_ms,
        peak_memory_mib=measured.peak_pss_mib,
        golden_max_error=measured.report.golden_max_error,
        golden_class_agreement=measured.report.golden_class_agreement,
        budget_p99_ms=budget.p99_ms,
        budget_memory_mib=budget.peak_memory_mib,
    )
