"""Executes one model's commands with the real parts: store, transport, runners."""

import asyncio
import logging
import time
from collections.abc import Iterable

from msgspec.structs import replace

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
    ActivationFailed,
    BytesLost,
    Event,
    Fetched,
    FetchFailed,
    NotInstallable,
    Permitted,
    ProbationFailed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RolledBack,
    VariantRejected,
)
from agent.core.judgement import choose_variant, judge_shadow
from agent.core.preconditions import Waiting
from agent.errors import ReleaseError
from agent.protocol import telemetry
from agent.protocol.drift import DriftWindow
from agent.protocol.ids import Sha256
from agent.protocol.runner import Statistics
from agent.protocol.state import Measurement, Phase, Reason, TransferProgress
from agent.service.gate import Gate
from agent.service.installer import Installer, read_manifest
from agent.service.probation import ProbationWatch
from agent.service.prover import Prover, reason_of
from agent.service.serving import Serving
from agent.service.shadowing import Shadowing
from agent.service.surroundings import Surroundings
from agent.service.transfers import DeploymentMeter
from agent.supervisor.errors import SupervisorError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.serving import RunnerEvent

log = logging.getLogger(__name__)

WORTH_ANOTHER_VARIANT = frozenset(
    {"latency-over-budget", "memory-over-budget", "load-failed", "probe-timeout"}
)
"""A variant refused for what it costs, or because its runtime can't take it, says nothing about the other ones."""


class ModelExecutor:
    """Executes the update machine's commands for one model."""

    def __init__(self, server: ModelServer, installer: Installer, around: Surroundings) -> None:
        self._server = server
        self._installer = installer
        self._around = around
        self._prover = Prover(server, around)
        self.serving = Serving(server, self._prover, around)
        self._candidate: RunnerProcess | None = None
        self._shadowing = Shadowing(server, around.changed)
        self.gate = Gate(
            server.model,
            around.conditions,
            gather=around.facts,
            order=lambda deployment: around.order(server.model, deployment),
            changed=around.changed,
        )
        self._probation: ProbationWatch | None = None
        self._meter: DeploymentMeter | None = None

    @property
    def progress(self) -> TransferProgress | None:
        """How far the candidate's bytes are, while fetching."""
        return None if self._meter is None else self._meter.progress(time.monotonic())

    @property
    def waiting(self) -> Waiting | None:
        """What keeps the deployment under way from going on: its bytes from coming, the candidate from being activated."""
        if self.gate.waiting is not None:
            return self.gate.waiting
        if self._probation is not None and self._probation.waiting is not None:
            return self._probation.waiting
        reason = self._shadowing.state or (None if self._meter is None else self._meter.waiting)
        return None if reason is None else Waiting(reason=reason)

    @property
    def waiting_for(self) -> Reason | None:
        """The reason of :attr:`waiting`."""
        return None if self.waiting is None else self.waiting.reason

    def runner_event(self, event: RunnerEvent) -> None:
        """Called when the active runner died or was replaced."""
        if event.kind == "runner-died":
            if self._probation is not None and self._probation.deployment == event.spec.deployment:
                self._probation.died(event.reason)
            self.serving.died(event)

    def answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        """A runner of this model has reported."""
        if self._probation is not None and self._probation.deployment == runner.spec.deployment:
            self._probation.answered(statistics)
        self.serving.answered(runner, statistics)

    def window(self, window: DriftWindow) -> None:
        """A drift window of this model was closed."""
        if self._probation is not None and self._probation.deployment == window.deployment:
            self._probation.window(window)

    async def close(self) -> None:
        """Stop what goes on beside the worker; the server stops its runners itself."""
        await self.serving.end()

    async def fetch(self, command: FetchRelease) -> Event:
        async with self._around.collecting:
            pass  # what was begun before this model said that it fetches; a later one knows of it and takes nothing
        files = (command.assignment.manifest, *command.assignment.files)
        self._around.transfers.expect(files)
        meter = self._meter = DeploymentMeter(self._around.transfers, [file.sha256 for file in files])
        try:
            candidate = await self.gate.downloading(
                command.deployment,
                command.accepted,
                lambda: self._installer.install(command.assignment, command.tried, meter.told),
            )
        except ReleaseError as error:
            return FetchFailed(deployment=command.deployment, reason=error.reason)
        finally:
            self._meter = None
        return Fetched(deployment=command.deployment, candidate=candidate)

    async def permit(self, command: AwaitPermission) -> Event:
        await self.gate.installable(command.deployment, command.accepted)
        damaged = await asyncio.to_thread(self._damaged, command.candidate.files)
        if damaged is None:
            return Permitted(deployment=command.deployment)
        text = f"file {damaged[:12]}… of the release was damaged or lost on this device while it waited"
        kind = NotInstallable if command.refetched else BytesLost
        return kind(deployment=command.deployment, reason=Reason(code="artifact-damaged", text=text))

    def _damaged(self, files: Iterable[Sha256]) -> str | None:
        """The first file that is not what it was when it was fetched: waiting may have taken days, and a power cut."""
        for digest in dict.fromkeys(files):
            if not self._around.artifacts.verify(digest):
                return digest
        return None

    async def probe(self, command: ProbeCandidate) -> Event:
        candidate = command.candidate
        await self._end_candidate()
        try:
            manifest = await self._prover.manifest(candidate)
            async with self._prover.turn:
                self._candidate = await self._prover.start(candidate, manifest)
                proof = await self._prover.prove(self._candidate, candidate, manifest)
        except (SupervisorError, ReleaseError) as error:
            return await self._refused(command, reason_of(error), None)
        if proof.against is not None:
            return await self._refused(command, proof.against, proof.measurement)
        return await self._shadow(command, self._candidate, proof.measurement)

    async def _shadow(
        self, command: ProbeCandidate, runner: RunnerProcess, measurement: Measurement
    ) -> Event:
        """Compare it with what serves, where that is asked for; live requests come as they come, so without a turn."""
        policy = command.candidate.shadow
        if policy is None:
            return ProbePassed(deployment=command.deployment, measurement=measurement)
        try:
            figures = await self._shadowing.compare(runner, policy)
        except SupervisorError as error:
            return await self._refused(command, reason_of(error), measurement)
        measurement = replace(measurement, shadow=figures)
        against = judge_shadow(figures, policy)
        if against is not None:
            return await self._refused(command, against, measurement)
        return ProbePassed(deployment=command.deployment, measurement=measurement)

    async def _refused(
        self, command: ProbeCandidate, reason: Reason, measurement: Measurement | None
    ) -> Event:
        # Now, not at the next command: what was stopped to make room for it may come back at once.
        await self._end_candidate()
        if reason.code in WORTH_ANOTHER_VARIANT and self._has_another(command):
            return VariantRejected(deployment=command.deployment, reason=reason, measurement=measurement)
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
        manifest = await self._prover.manifest(command.candidate)
        hardware_class = self._around.config.device.hardware_class
        watch = self._probation = ProbationWatch(command.candidate, manifest, hardware_class, self._server)
        await self.serving.pause()
        try:
            await self._server.activate(runner)
        except SupervisorError as error:
            reason = getattr(error, "reason", None) or Reason(code="activation-failed", text=str(error))
            return ActivationFailed(deployment=command.deployment, reason=reason)
        watch.activated()
        await self.serving.end()
        self._candidate = None
        return Activated(deployment=command.deployment)

    async def watch(self, command: WatchProbation) -> Event:
        watch = self._probation
        if watch is None or watch.deployment != command.deployment:
            text = "what serves was not activated since the agent's start"
            return ProbationFailed(
                deployment=command.deployment, reason=Reason(code="candidate-gone", text=text)
            )
        return await watch.run(self._prover)

    async def commit(self, command: CommitRelease) -> None:
        log.info(
            "release committed", extra={"deployment": command.deployment, "release": command.active.release}
        )
        self._probation = None
        self.serving.committed(command.active)
        await self._around.collect()

    async def restore(self, command: RestorePrevious) -> Event:
        self._probation = None
        await self._end_candidate()
        if command.target is None:
            await self.serving.end()
            await self._server.deactivate(f"no release is committed: {command.reason.text}")
        else:
            await self.serving.serve(command.target)
        return RolledBack(deployment=command.deployment)

    async def discard(self, command: DiscardCandidate) -> None:
        await self._end_candidate()
        log.info("candidate discarded", extra={"deployment": command.deployment})
        await self._around.collect()

    async def serve(self, command: ServeActive) -> None:
        await self.serving.serve(command.active)

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

    async def _end_candidate(self) -> None:
        runner, self._candidate = self._candidate, None
        if runner is not None:
            await self._server.discard(runner)
