"""Reported state: what the device says of itself, built from its parts."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from agent.core.model_state import ModelState
from agent.core.preconditions import Waiting
from agent.core.reconcile import Action, Plan
from agent.core.slots import InstalledRelease
from agent.protocol.control import ModelReport, SlotReport
from agent.protocol.drift import DriftWindow
from agent.protocol.limits import MAX_REPORTED_DEPLOYMENTS
from agent.protocol.state import (
    DeploymentReport,
    ModelRelease,
    Phase,
    Reason,
    ServiceVerdict,
    ServingReport,
    TransferProgress,
)
from agent.protocol.verification import UNKNOWN_MODEL
from agent.supervisor.runner_process import RunnerProcess


class ModelView(Struct, frozen=True, kw_only=True):
    """One model, as its worker and its server see it at one moment."""

    state: ModelState
    runner: RunnerProcess | None
    ready: bool
    progress: TransferProgress | None
    address: str | None
    window: DriftWindow | None
    """The newest closed one."""
    verdict: ServiceVerdict | None = None
    """Of the committed release's service level."""
    degraded: Reason | None = None
    waiting: Waiting | None = None
    """What keeps the deployment under way from going on."""


def serving_report(view: ModelView) -> ServingReport | None:
    """What answers the model's requests now; None where nothing does."""
    runner = view.runner
    if runner is None:
        return None
    spec, statistics, window = runner.spec, runner.statistics, view.window
    if window is not None and window.release != spec.release:
        window = None  # of the release before: it says nothing about this one
    return ServingReport(
        model=spec.model,
        release=spec.release,
        variant=spec.variant,
        artifact=spec.artifact_sha256,
        ready=view.ready,
        requests=statistics.requests if statistics else 0,
        failures=statistics.failures if statistics else 0,
        refused=statistics.refused if statistics else 0,
        turned_away=statistics.turned_away if statistics else 0,
        p50_ms=statistics.p50_ms if statistics else None,
        p95_ms=statistics.p95_ms if statistics else None,
        p99_ms=statistics.p99_ms if statistics else None,
        memory_mib=runner.memory_mib(),
        drift=window.verdict.level if window else None,
        drift_rows=window.rows if window else None,
        service_level=view.verdict,
        degraded=view.degraded,
    )


def deployment_report(view: ModelView) -> DeploymentReport | None:
    """The model's newest deployment; None on a fresh device."""
    deployment = view.state.deployment
    if deployment is None:
        return None
    waiting = None if deployment.final else view.waiting
    return DeploymentReport(
        deployment=deployment.deployment,
        model=deployment.model,
        release=deployment.release,
        phase=deployment.phase,
        since=deployment.since,
        reason=deployment.reason,
        waiting_for=None if waiting is None else waiting.reason,
        waiting_until=None if waiting is None else waiting.until,
        accepted=deployment.accepted,
        measurement=deployment.measurement,
        tried=deployment.tried,
        chosen=_chosen(view.state),
        progress=view.progress if deployment.phase is Phase.FETCHING else None,
    )


def _chosen(state: ModelState) -> Reason | None:
    """Why the newest deployment's variant was chosen; None where none is installed."""
    deployment = state.deployment
    for release in (state.slots.candidate, state.slots.active):
        if deployment is not None and release is not None and release.deployment == deployment.deployment:
            return release.chosen
    return None


def deployment_reports(views: Iterable[ModelView], plan: Plan, now: float) -> tuple[DeploymentReport, ...]:
    """Newest deployment of each model, and the ones that wait to begin with what they wait for."""
    reports = [report for view in views if (report := deployment_report(view)) is not None]
    known = {report.deployment for report in reports}
    reports += [
        DeploymentReport(
            deployment=step.deployment,
            model=step.model,
            release=step.release,
            phase=Phase.FETCHING,
            since=now,
            waiting_for=step.reason,
        )
        for step in plan.steps
        if step.action is Action.WAIT
        and step.deployment is not None
        and step.release is not None
        and step.deployment not in known
    ]
    newest = sorted(reports, key=lambda report: report.since)[-MAX_REPORTED_DEPLOYMENTS:]
    nowhere = [each for each in _of_unknown_models(plan, now) if each.deployment not in known]
    return (*nowhere[: MAX_REPORTED_DEPLOYMENTS - len(newest)], *newest)


def _of_unknown_models(plan: Plan, now: float) -> list[DeploymentReport]:
    """Refused, and kept nowhere: there may be any number of them, so they take no deployment's place."""
    return [
        DeploymentReport(
            deployment=step.deployment,
            model=step.model,
            release=step.release,
            phase=Phase.REFUSED,
            since=now,
            reason=step.reason,
        )
        for step in plan.steps
        if step.reason.code == UNKNOWN_MODEL and step.deployment is not None and step.release is not None
    ]


def model_report(view: ModelView) -> ModelReport:
    """For the technician."""
    slots = view.state.slots
    return ModelReport(
        model=view.state.model,
        address=view.address,
        active=_slot(slots.active),
        candidate=_slot(slots.candidate),
        previous=_slot(slots.previous),
        floor=slots.floor,
        deployment=deployment_report(view),
        serving=serving_report(view),
    )


def _slot(release: InstalledRelease | None) -> SlotReport | None:
    if release is None:
        return None
    return SlotReport(
        release=release.release,
        variant=release.variant,
        artifact=release.artifact,
        deployment=release.deployment,
        standby=None if release.standby is None else release.standby.variant,
    )


def installed_releases(states: Mapping[str, ModelState]) -> tuple[ModelRelease, ...]:
    """The last committed release of each model: the verifier says which of these were withdrawn."""
    active = [state.slots.active for state in states.values()]
    return tuple(
        ModelRelease(model=release.model, release=release.release)
        for release in active
        if release is not None
    )


def referenced(states: Mapping[str, ModelState]) -> frozenset[str]:
    """Digests that garbage collection must keep: what a slot names, and every file of a release that is on its way.

    Of that one no slot knows yet which files are needed; what is not will be collected when it has ended.
    """
    slots = (state.slots.referenced() for state in states.values())
    return frozenset().union(*slots, *(_on_their_way(state) for state in states.values()))


def _on_their_way(state: ModelState) -> frozenset[str]:
    deployment = state.deployment
    if deployment is None or deployment.phase is not Phase.FETCHING or deployment.assignment is None:
        return frozenset()
    assignment = deployment.assignment
    return frozenset({assignment.manifest.sha256, *(file.sha256 for file in assignment.files)})
