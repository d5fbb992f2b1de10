"""Effects: what a transition changes beside the phase. Called by the table of :mod:`agent.core.update_machine` alone.

Each takes a state and the row's event and returns the changed state, or refuses by an ``IllegalEventError``.
"""

from msgspec.structs import replace

from agent.core import slots as slot_moves
from agent.core.errors import IllegalEventError, NothingToRollBackToError
from agent.core.events import (
    Accepted,
    AlreadyActive,
    Assigned,
    AssignmentRefused,
    BytesLost,
    Event,
    Fetched,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RollbackRequested,
    Steady,
    Superseded,
    VariantRejected,
)
from agent.core.model_state import DeploymentState, ModelState, current, same_release, tried
from agent.protocol.state import Phase, TriedVariant


def keep(state: ModelState, _event: Event) -> ModelState:
    return state


def _open(state: ModelState, deployment: DeploymentState) -> ModelState:
    last = state.deployment
    if last is not None and last.report_pending:
        raise IllegalEventError(
            f"deployment {deployment.deployment}: the outcome of {last.deployment} is not reported yet"
        )
    if deployment.deployment in state.ended:
        raise IllegalEventError(f"deployment {deployment.deployment}: it has ended and is not run again")
    return replace(state, deployment=deployment)


def _from_assignment(state: ModelState, event: Assigned | AlreadyActive) -> DeploymentState:
    assignment = event.assignment
    named = (assignment.model, assignment.assignment.deployment)
    if named != (state.model, event.deployment):
        raise IllegalEventError(
            f"deployment {event.deployment} of {state.model}: the assignment is of {named}"
        )
    return DeploymentState(
        deployment=event.deployment,
        model=state.model,
        release=assignment.release,
        phase=Phase.FETCHING,
        since=0.0,
        assignment=assignment,
    )


def begin(state: ModelState, event: Assigned) -> ModelState:
    if not state.slots.allows(event.assignment.release):
        raise IllegalEventError(
            f"deployment {event.deployment}: release {event.assignment.release} is below the floor "
            f"{state.slots.floor} and was never committed here"
        )
    return _open(state, _from_assignment(state, event))


def refuse_assignment(state: ModelState, event: AssignmentRefused) -> ModelState:
    refused = DeploymentState(
        deployment=event.deployment, model=state.model, release=event.release, phase=Phase.REFUSED, since=0.0
    )
    return _open(state, refused)


def adopt(state: ModelState, event: AlreadyActive) -> ModelState:
    active = state.slots.active
    if active is None or not same_release(active, event.assignment):
        raise IllegalEventError(f"deployment {event.deployment}: its release is not the active one")
    opened = _open(state, _from_assignment(state, event))
    return replace(opened, slots=replace(state.slots, active=replace(active, deployment=event.deployment)))


def take_candidate(state: ModelState, event: Fetched) -> ModelState:
    candidate, deployment = event.candidate, current(state)
    named = (candidate.deployment, candidate.model, candidate.release)
    if named != (deployment.deployment, state.model, deployment.release):
        raise IllegalEventError(f"deployment {deployment.deployment}: the fetched candidate is of {named}")
    return replace(state, slots=replace(state.slots, candidate=candidate))


def accept(state: ModelState, event: Accepted) -> ModelState:
    return replace(state, deployment=replace(current(state), accepted=event.acceptance))


def forgive(state: ModelState, _event: Steady) -> ModelState:
    deployment = current(state)
    return replace(state, deployment=replace(deployment, resumes=replace(deployment.resumes, in_a_row=0)))


def fetch_again(state: ModelState, _event: BytesLost) -> ModelState:
    deployment = current(state)
    if deployment.refetched:
        raise IllegalEventError(f"deployment {deployment.deployment}: its files were lost once before")
    again = replace(deployment, refetched=True)
    return replace(state, deployment=again, slots=slot_moves.drop_candidate(state.slots))


def measured(state: ModelState, event: ProbePassed | ProbeFailed) -> ModelState:
    return replace(state, deployment=replace(current(state), measurement=event.measurement))


def refuse_candidate(state: ModelState, event: ProbeFailed) -> ModelState:
    return drop(measured(state, event), event)


def try_another(state: ModelState, event: VariantRejected) -> ModelState:
    deployment, candidate = current(state), state.slots.candidate
    name = "" if candidate is None else candidate.variant
    if not name or name in tried(deployment):
        raise IllegalEventError(f"deployment {deployment.deployment}: variant {name!r} was refused before")
    row = TriedVariant(variant=name, reason=event.reason, measurement=event.measurement)
    deployment = replace(deployment, tried=(*deployment.tried, row))
    return replace(state, deployment=deployment, slots=slot_moves.drop_candidate(state.slots))


def commit(state: ModelState, _event: ProbationPassed) -> ModelState:
    # What held it up on the way (a variant that was refused, bytes that were lost) is no reason of its outcome.
    deployment = replace(current(state), reason=None)
    return replace(state, deployment=deployment, slots=slot_moves.commit(state.slots))


def drop(state: ModelState, _event: Event) -> ModelState:
    return replace(state, slots=slot_moves.drop_candidate(state.slots))


def supersede(state: ModelState, _event: Superseded) -> ModelState:
    return replace(state, deployment=replace(current(state), superseded=True))


def swap_back(state: ModelState, event: RollbackRequested) -> ModelState:
    active, deployment = state.slots.active, current(state)
    if active is None or state.slots.previous is None:
        raise NothingToRollBackToError(f"model {state.model}: no earlier release is kept on this device")
    if deployment.report_pending:
        raise IllegalEventError(f"deployment {event.deployment}: the outcome before is not reported yet")
    if deployment.deployment != active.deployment:
        # The newest deployment never became active; the one to undo is the release that serves.
        deployment = DeploymentState(
            deployment=active.deployment,
            model=state.model,
            release=active.release,
            phase=Phase.COMMITTED,
            since=0.0,
            outcome=Phase.COMMITTED,
        )
    return replace(state, deployment=deployment, slots=slot_moves.swap_back(state.slots))


def reported(state: ModelState, _event: Reported) -> ModelState:
    return replace(state, deployment=replace(current(state), report_pending=False))
