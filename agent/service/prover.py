"""One variant of a release: started on its private socket, and measured on this device against its signed budget."""

import asyncio

from msgspec import Struct

from agent.core.judgement import judge_golden, judge_probe
from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol.manifest import Manifest
from agent.protocol.state import Measurement, Reason
from agent.service.installer import parse_manifest
from agent.service.surroundings import Surroundings
from agent.store.errors import MissingArtifactError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.outcomes import ProbeMeasurement
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.specs import RunnerSpec

ARTIFACT_DAMAGED = "artifact-damaged"


CHECK_INFERENCES = 1
"""Beside the golden ones: a runner that serves is not kept from it."""


class Proof(Struct, frozen=True, kw_only=True):
    """What was measured, and what speaks against letting it serve."""

    measurement: Measurement
    against: Reason | None

    def demand(self) -> Measurement:
        """What was measured.

        Raises:
            ReleaseError: something speaks against it.
        """
        if self.against is not None:
            raise ReleaseError(self.against)
        return self.measurement


class Prover:
    """Starts and measures runners of one model; nothing serves that has not gone through it or been committed."""

    def __init__(self, server: ModelServer, around: Surroundings) -> None:
        self._server = server
        self._around = around
        self.turn = asyncio.Lock()
        """Held while a runner is being proven: two at once would measure each other."""

    async def manifest(self, release: InstalledRelease) -> Manifest:
        """The stored manifest of ``release``, its bytes checked.

        Raises:
            ReleaseError: it is missing, damaged, or breaks the contract.
        """
        try:
            data = await asyncio.to_thread(self._around.artifacts.read, release.manifest)
        except MissingArtifactError as error:
            raise _damaged(release, "manifest") from error
        return parse_manifest(data)

    async def start(
        self, release: InstalledRelease, manifest: Manifest, *, essential: bool = False
    ) -> RunnerProcess:
        """Start a runner for ``release`` on its private socket; its files are checked again before they are loaded.

        ``essential``: it is committed, so it is never refused for want of memory.

        Raises:
            ReleaseError: a file is missing or damaged.
            SupervisorError: it does not start.
        """
        artifacts, config = self._around.artifacts, self._around.config
        await self._require(release, release.artifact, f"file of variant {release.variant}")
        await self._require(release, manifest.drift_reference.sha256, "drift reference")
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
            samples=config.samples.policy(release.model),
            predictions_per_minute=config.labels.predictions_per_minute,
            labels_from=config.labels.http,
            stuck_seconds=config.serving.stuck_seconds,
            memory_limit_mib=budget.peak_memory_mib if budget is not None else None,
        )
        return await self._server.prepare(spec, essential=essential)

    async def prove(self, runner: RunnerProcess, release: InstalledRelease, manifest: Manifest) -> Proof:
        """Have ``runner`` compare golden outputs and time itself, and judge it by the budget of this hardware class.

        Raises:
            ReleaseError: the golden vectors are missing or damaged.
            SupervisorError: it could not be measured.
        """
        await self._require(release, manifest.golden.artifact.sha256, "golden vectors")
        probe, hardware_class = self._around.config.probe, self._around.config.device.hardware_class
        budget = manifest.budgets[hardware_class]
        measured = await runner.probe(
            self._around.artifacts.path(manifest.golden.artifact.sha256),
            warmup=probe.warmup,
            repetitions=probe.repetitions,
            p99_limit_ms=budget.p99_ms,
            timeout_seconds=probe.timeout_seconds,
        )
        return Proof(
            measurement=_measurement(release, manifest, measured, hardware_class),
            against=judge_probe(measured.report, measured.peak_pss_mib, budget, manifest.golden),
        )

    async def _require(self, release: InstalledRelease, digest: str, what: str) -> None:
        if not await asyncio.to_thread(self._around.artifacts.intact, digest):
            raise _damaged(release, what)

    async def check(self, runner: RunnerProcess, manifest: Manifest) -> Reason | None:
        """What speaks against a runner that serves, by its golden outputs alone: its times would be those of a device at work.

        Raises:
            SupervisorError: it could not be asked, or did not answer.
        """
        measured = await runner.probe(
            self._around.artifacts.path(manifest.golden.artifact.sha256),
            warmup=CHECK_INFERENCES,
            repetitions=CHECK_INFERENCES,
            timeout_seconds=self._around.config.probe.timeout_seconds,
        )
        return judge_golden(measured.report, manifest.golden)


def _damaged(release: InstalledRelease, what: str) -> ReleaseError:
    text = f"the {what} of release {release.release} is missing or damaged on this device"
    return ReleaseError(Reason(code=ARTIFACT_DAMAGED, text=text))


def reason_of(error: Exception) -> Reason:
    """Why a runner did not come to serve."""
    reason = getattr(error, "reason", None)
    return reason if isinstance(reason, Reason) else Reason(code="load-failed", text=str(error))


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
