"""Fills commands from the states before and after a transition."""

from collections.abc import Callable

from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
    Command,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    ReportReversal,
    RestorePrevious,
    WatchProbation,
)
from agent.core.errors import IllegalEventError
from agent.core.model_state import ModelState, current, tried
from agent.core.slots import InstalledRelease
from agent.protocol.state import Reason


def build(kind: type[Command], before: ModelState, after: ModelState) -> Command:
    """Fill a command from the state before and after its transition."""
    return _BUILD[kind](before, after)


def _fetch(_before: ModelState, after: ModelState) -> Command:
    deployment = current(after)
    if deployment.assignment is None:
        raise IllegalEventError(f"deployment {deployment.deployment}: there is no assignment to fetch")
    return FetchRelease(
        deployment=deployment.deployment,
        assignment=deployment.assignment,
        tried=tried(deployment),
        accepted=deployment.accepted,
    )


def _candidate(state: ModelState) -> InstalledRelease:
    if state.slots.candidate is None:
        raise IllegalEventError(f"model {state.model}: there is no candidate in phase {state.phase}")
    return state.slots.candidate


def _active(state: ModelState) -> InstalledRelease:
    if state.slots.active is None:
        raise IllegalEventError(f"model {state.model}: there is no active release in phase {state.phase}")
    return state.slots.active


def _restore(_before: ModelState, after: ModelState) -> Command:
    deployment = current(after)
    reason = deployment.reason or Reason(code="rolled-back", text="the run is being undone")
    return RestorePrevious(deployment=deployment.deployment, target=after.slots.active, reason=reason)


def _report(_before: ModelState, after: ModelState) -> Command:
    deployment = current(after)
    outcome = deployment.outcome or deployment.phase
    if outcome is not deployment.phase:
        return ReportReversal(
            deployment=deployment.deployment, release=deployment.release, reason=deployment.reason
        )
    return ReportOutcome(
        deployment=deployment.deployment,
        release=deployment.release,
        outcome=outcome,
        reason=deployment.reason,
    )


_BUILD: dict[type[Command], Callable[[ModelState, ModelState], Command]] = {
    FetchRelease: _fetch,
    AwaitPermission: lambda _, after: AwaitPermission(
        deployment=current(after).deployment,
        candidate=_candidate(after),
        refetched=current(after).refetched,
        accepted=current(after).accepted,
    ),
    ProbeCandidate: lambda _, after: ProbeCandidate(
        deployment=current(after).deployment, candidate=_candidate(after), tried=tried(current(after))
    ),
    ActivateCandidate: lambda _, after: ActivateCandidate(
        deployment=current(after).deployment, candidate=_candidate(after), replaces=after.slots.active
    ),
    WatchProbation: lambda _, after: WatchProbation(
        deployment=current(after).deployment, candidate=_candidate(after)
    ),
    CommitRelease: lambda _, after: CommitRelease(
        deployment=current(after).deployment, active=_active(after)
    ),
    RestorePrevious: _restore,
    DiscardCandidate: lambda before, after: DiscardCandidate(
        deployment=current(after).deployment, candidate=before.slots.candidate
    ),
    ReportOutcome: _report,
}
