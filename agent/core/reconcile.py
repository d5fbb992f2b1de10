"""Reconcile: what the director wants against what the device has, as a plan of steps with their reasons in words.

Level-triggered and pure: ask again whenever the desired state or a hold changes and whenever a deployment has ended
and was reported; when nothing is left to do, every step says so. A plan holds at most one event a model, and that
event is legal now. Each model is decided alone, so a stuck one never blocks another.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from msgspec import Struct

from agent.core.events import AlreadyActive, Assigned, AssignmentRefused, Superseded
from agent.core.model_state import ModelState, same_release
from agent.protocol.ids import Name, Version
from agent.protocol.state import Phase, Reason
from agent.protocol.verification import RefusedAssignment, VerifiedAssignment

_NONE: Mapping[str, Collection[int]] = {}
"""Nothing is withdrawn."""
_NOTHING_EXPIRED: Mapping[str, Reason] = {}


HELD_BY_HUB = Reason(code="held-by-hub", text="the hub asks to keep what is running")


class Action(StrEnum):
    """What is planned for one model."""

    START = "start"
    """Install the release."""
    ADOPT = "adopt"
    """The release already serves; the deployment is committed as it is."""
    SUPERSEDE = "supersede"
    """End the run under way, because the desired state no longer names it."""
    REFUSE = "refuse"
    """The release must not be installed; the deployment ends with the reason."""
    WAIT = "wait"
    """The device could go on but does not."""
    CONTINUE = "continue"
    """The run under way is the one that is wanted."""
    NOTHING = "nothing"


PlannedEvent = Assigned | AlreadyActive | AssignmentRefused | Superseded


class PlannedStep(Struct, frozen=True, kw_only=True):
    """One model's next step."""

    action: Action
    model: Name
    deployment: Name | None
    release: Version | None
    reason: Reason
    """Why, for programs and for people."""
    event: PlannedEvent | None = None
    """What to feed to :func:`agent.core.update_machine.step` for this model; None: nothing."""


class Plan(Struct, frozen=True, kw_only=True):
    """Steps in order of model; at most one step of each model carries an event."""

    steps: tuple[PlannedStep, ...] = ()

    def waiting_for(self, model: str) -> Reason | None:
        """Why the model's desired release waits, if it does (for ``reported``)."""
        for step in self.steps:
            if step.model == model and step.action is Action.WAIT:
                return step.reason
        return None


def reconcile(
    assignments: Iterable[VerifiedAssignment],
    refused: Iterable[RefusedAssignment],
    states: Mapping[str, ModelState],
    *,
    hold: Reason | None,
    withdrawn: Mapping[str, Collection[int]] = _NONE,
    expired: Mapping[str, Reason] = _NOTHING_EXPIRED,
) -> Plan:
    """Plan the way from ``states`` (by model) to the newest verified desired state.

    ``assignments`` and ``refused`` are those of one :class:`~agent.protocol.verification.VerifyResult`; ``hold`` is
    set while a technician holds the device; ``withdrawn``: model → releases that its approvers have taken back;
    ``expired``: model → why what was verified does not hold any more. A hold keeps new runs from starting, unless they
    replace a withdrawn release; what has expired does so always. A run under way is held where it waits
    (:mod:`agent.core.preconditions`), and goes on to its end from the probe on.
    """
    wanted: dict[str, list[VerifiedAssignment]] = {}
    bad: dict[str, list[RefusedAssignment]] = {}
    for assignment in assignments:
        wanted.setdefault(assignment.model, []).append(assignment)
    for refusal in refused:
        bad.setdefault(refusal.model, []).append(refusal)
    steps: list[PlannedStep] = []
    for model in sorted({*wanted, *bad, *states}):
        state = states.get(model, ModelState(model=model))
        held = expired.get(model) or (None if replaces_withdrawn(state, withdrawn.get(model, ())) else hold)
        steps += _plan_model(state, wanted.get(model, []), bad.get(model, []), held)
    return Plan(steps=tuple(steps))


def replaces_withdrawn(state: ModelState, withdrawn: Collection[int]) -> bool:
    """Whether whatever is installed now replaces a release that was withdrawn: that is what a hold must not keep."""
    active = state.slots.active
    return active is not None and active.release in withdrawn


def _plan_model(
    state: ModelState,
    wanted: list[VerifiedAssignment],
    bad: list[RefusedAssignment],
    hold: Reason | None,
) -> list[PlannedStep]:
    good, refusals = _sort_out(state, wanted, bad)
    current = state.deployment
    if current is not None and not current.final:
        return _plan_running(state, good)
    if current is not None and current.report_pending:
        return _plan_behind(state, good, f"the outcome of deployment {current.deployment} is being recorded")
    for refusal in refusals:
        if refusal.deployment not in state.ended:
            others = _plan_behind(state, good, f"the refusal of deployment {refusal.deployment} comes first")
            return [_refuse(refusal), *(others if good is not None else [])]
    return [_at_rest(state, refusals) if good is None else _plan_wanted(state, good, hold)]


def _sort_out(
    state: ModelState, wanted: list[VerifiedAssignment], bad: list[RefusedAssignment]
) -> tuple[VerifiedAssignment | None, list[RefusedAssignment]]:
    """The one assignment that may be installed, if there is one, and everything that must be refused."""
    if len(wanted) > 1:
        releases = ", ".join(str(assignment.release) for assignment in wanted)
        reason = Reason(
            code="ambiguous-assignment", text=f"the desired state names {len(wanted)} releases: {releases}"
        )
        return None, bad + [_refusal(assignment, reason) for assignment in wanted]
    if not wanted:
        return None, bad
    assignment = wanted[0]
    ended = assignment.assignment.deployment in state.ended
    if not ended and not state.slots.allows(assignment.release):
        text = (
            f"release {assignment.release} is older than {state.slots.floor}, the newest committed here, "
            "and was never committed on this device"
        )
        return None, [*bad, _refusal(assignment, Reason(code="below-floor", text=text))]
    return assignment, bad


def _refusal(assignment: VerifiedAssignment, reason: Reason) -> RefusedAssignment:
    return RefusedAssignment(
        model=assignment.model,
        release=assignment.release,
        deployment=assignment.assignment.deployment,
        reason=reason,
    )


def _refuse(refusal: RefusedAssignment) -> PlannedStep:
    return PlannedStep(
        action=Action.REFUSE,
        model=refusal.model,
        deployment=refusal.deployment,
        release=refusal.release,
        reason=refusal.reason,
        event=AssignmentRefused(
            deployment=refusal.deployment, release=refusal.release, reason=refusal.reason
        ),
    )


def _plan_running(state: ModelState, good: VerifiedAssignment | None) -> list[PlannedStep]:
    """A run is under way: it goes on if it is still wanted, else it is ended first."""
    current = state.deployment
    assert current is not None  # noqa: S101 - the caller has looked; for the type checker
    what = f"deployment {current.deployment} of release {current.release}"
    if good is not None and good.assignment.deployment == current.deployment:
        return [
            PlannedStep(
                action=Action.CONTINUE,
                model=state.model,
                deployment=current.deployment,
                release=current.release,
                reason=Reason(code="under-way", text=f"{what} is {current.phase.value}"),
            )
        ]
    successor = "nothing" if good is None else f"release {good.release}"
    steps = []
    if current.phase is not Phase.ROLLING_BACK:
        reason = Reason(code="superseded", text=f"the desired state now names {successor} for this model")
        steps.append(
            PlannedStep(
                action=Action.SUPERSEDE,
                model=state.model,
                deployment=current.deployment,
                release=current.release,
                reason=reason,
                event=Superseded(deployment=current.deployment, reason=reason),
            )
        )
    if good is not None or not steps:
        steps += _plan_behind(state, good, f"{what} has to end first")
    return steps


def _plan_behind(state: ModelState, good: VerifiedAssignment | None, text: str) -> list[PlannedStep]:
    """Something of this model has to end before anything new begins."""
    reason = Reason(code="earlier-run-ends", text=text)
    return [_nothing(state, reason) if good is None else _wait(good, reason)]


def _plan_wanted(state: ModelState, good: VerifiedAssignment, hold: Reason | None) -> PlannedStep:
    """No run is under way and one release is wanted."""
    deployment, active = good.assignment.deployment, state.slots.active
    if deployment in state.ended:
        return _ended(state, good)
    if active is not None and same_release(active, good):
        return PlannedStep(
            action=Action.ADOPT,
            model=state.model,
            deployment=deployment,
            release=good.release,
            reason=Reason(code="already-active", text=f"release {good.release} is committed and serves"),
            event=AlreadyActive(deployment=deployment, assignment=good),
        )
    if hold is not None:
        return _wait(good, hold)
    if good.assignment.hold:
        return _wait(good, HELD_BY_HUB)
    return PlannedStep(
        action=Action.START,
        model=state.model,
        deployment=deployment,
        release=good.release,
        reason=Reason(code="assigned", text=f"the desired state names release {good.release}"),
        event=Assigned(deployment=deployment, assignment=good),
    )


def _ended(state: ModelState, good: VerifiedAssignment) -> PlannedStep:
    deployment, active, newest = good.assignment.deployment, state.slots.active, state.deployment
    if active is not None and active.deployment == deployment:
        reason = Reason(code="up-to-date", text=f"release {good.release} is committed and serves")
    else:
        how = "ended"
        if newest is not None and newest.deployment == deployment:
            why = "" if newest.reason is None else f" ({newest.reason.text})"
            how = f"ended {newest.phase.value}{why}"
        text = f"deployment {deployment} {how}; it is not tried again until the desired state changes"
        reason = Reason(code="not-retried", text=text)
    return PlannedStep(
        action=Action.NOTHING, model=state.model, deployment=deployment, release=good.release, reason=reason
    )


def _at_rest(state: ModelState, refusals: list[RefusedAssignment]) -> PlannedStep:
    if refusals:
        newest = refusals[-1]
        text = f"release {newest.release} was refused: {newest.reason.text}"
        return _nothing(state, Reason(code="not-retried", text=text))
    active = state.slots.active
    keeps = "nothing is installed" if active is None else f"release {active.release} keeps serving"
    return _nothing(state, Reason(code="not-assigned", text=f"the desired state does not name it; {keeps}"))


def _wait(good: VerifiedAssignment, reason: Reason) -> PlannedStep:
    return PlannedStep(
        action=Action.WAIT,
        model=good.model,
        deployment=good.assignment.deployment,
        release=good.release,
        reason=reason,
    )


def _nothing(state: ModelState, reason: Reason) -> PlannedStep:
    return PlannedStep(action=Action.NOTHING, model=state.model, deployment=None, release=None, reason=reason)
