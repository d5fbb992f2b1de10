"""The update machine: one table, (state, event) → state + commands. Everything that changes a deployment stands here.

How the service drives it, for one model::

    state, commands = recover(load() or ModelState(model=name), now, boot)   # on start
    save(state)                                                           # one durable write, before any command
    for command in commands: start it                                     # idempotent; each answer is an event

    state, commands = step(state, event, now)                             # for each event; raises, changes nothing
    save(state)
    for command in commands: start it, in this order

``save`` writes the whole :class:`ModelState` (slots and deployment) at once, so that a slot can never disagree with
the phase that filled it. Commands whose docstring says "no answer" are run to their end before the next one. When a
deployment has ended (and ``Reported`` was fed back), ask :func:`agent.core.reconcile.reconcile` again.

A :class:`~agent.core.errors.StaleEventError` is a late answer of an earlier deployment: drop it. When a run is
superseded or rolled back, cancel its own work (fetch, waiting, probe, activation, probation) and nothing else: a ``ServeActive``
or a report that has not run yet still has to. Any other :class:`~agent.core.errors.IllegalEventError` is a
mistake in the caller. Neither changes anything.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.core import effects
from agent.core.build import build
from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
    Command,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    RestorePrevious,
    ServeActive,
    WatchProbation,
)
from agent.core.errors import IllegalEventError, NothingToRollBackToError, StaleEventError
from agent.core.events import (
    Accepted,
    Activated,
    ActivationFailed,
    AlreadyActive,
    Assigned,
    AssignmentRefused,
    BytesLost,
    Event,
    Fetched,
    FetchFailed,
    NotInstallable,
    Permitted,
    ProbationFailed,
    ProbationPassed,
    ProbeFailed,
    ProbePassed,
    Reported,
    RollbackRequested,
    RolledBack,
    Steady,
    Superseded,
    VariantRejected,
)
from agent.core.model_state import DeploymentState, ModelState, Resumes, current
from agent.protocol.state import FINAL_PHASES, Phase, Reason

ENDED_KEPT = 64
"""How many ended deployment ids a model remembers, so that none of them is run again."""

OPERATOR_ROLLBACK = "operator-rollback"
INTERRUPTED = "interrupted"
RESTART_LOOP = "restart-loop"

STARTS_IN_A_ROW = 5
"""Starts of the agent that a deployment may be resumed at, without the agent running steadily between."""
STARTS_IN_ALL = 1_000
"""Starts that it may be resumed at, however long the agent runs between: a loop that takes its time ends too."""

Effect = Callable[[ModelState, Any], ModelState]


class Transition(Struct, frozen=True, kw_only=True):
    """One row of the table."""

    to: Phase
    effect: Effect
    """Changes slots and records what the event brought; may refuse it by an ``IllegalEventError``."""
    commands: tuple[type[Command], ...] = ()
    superseded_to: Phase | None = None
    """Where the run ends instead if it is being undone because it was superseded."""


# --- The table ---------------------------------------------------------------------------------------------------

_P = Phase
_T = Transition
_UNDO = (RestorePrevious,)
_END = (DiscardCandidate, ReportOutcome)

_RUNNING: dict[tuple[Phase | None, type[Event]], Transition] = {
    (_P.FETCHING, Fetched): _T(to=_P.READY, effect=effects.take_candidate, commands=(AwaitPermission,)),
    (_P.FETCHING, Accepted): _T(to=_P.FETCHING, effect=effects.accept, commands=(FetchRelease,)),
    (_P.FETCHING, Steady): _T(to=_P.FETCHING, effect=effects.forgive),
    (_P.FETCHING, FetchFailed): _T(to=_P.REFUSED, effect=effects.drop, commands=_END),
    (_P.FETCHING, Superseded): _T(to=_P.SUPERSEDED, effect=effects.drop, commands=_END),
    (_P.FETCHING, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.READY, Accepted): _T(to=_P.READY, effect=effects.accept, commands=(AwaitPermission,)),
    (_P.READY, Steady): _T(to=_P.READY, effect=effects.forgive),
    (_P.READY, Permitted): _T(to=_P.PROBING, effect=effects.keep, commands=(ProbeCandidate,)),
    (_P.READY, BytesLost): _T(
        to=_P.FETCHING, effect=effects.fetch_again, commands=(DiscardCandidate, FetchRelease)
    ),
    (_P.READY, NotInstallable): _T(to=_P.REFUSED, effect=effects.drop, commands=_END),
    (_P.READY, Superseded): _T(to=_P.SUPERSEDED, effect=effects.drop, commands=_END),
    (_P.READY, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.PROBING, ProbePassed): _T(to=_P.ACTIVATING, effect=effects.measured, commands=(ActivateCandidate,)),
    (_P.PROBING, VariantRejected): _T(
        to=_P.FETCHING, effect=effects.try_another, commands=(DiscardCandidate, FetchRelease)
    ),
    (_P.PROBING, ProbeFailed): _T(to=_P.REFUSED, effect=effects.refuse_candidate, commands=_END),
    (_P.PROBING, Superseded): _T(to=_P.SUPERSEDED, effect=effects.drop, commands=_END),
    (_P.PROBING, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.ACTIVATING, Activated): _T(to=_P.PROBATION, effect=effects.keep, commands=(WatchProbation,)),
    (_P.ACTIVATING, ActivationFailed): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.ACTIVATING, Superseded): _T(to=_P.ROLLING_BACK, effect=effects.supersede, commands=_UNDO),
    (_P.ACTIVATING, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.PROBATION, ProbationPassed): _T(
        to=_P.COMMITTED, effect=effects.commit, commands=(CommitRelease, ReportOutcome)
    ),
    (_P.PROBATION, ProbationFailed): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.PROBATION, Superseded): _T(to=_P.ROLLING_BACK, effect=effects.supersede, commands=_UNDO),
    (_P.PROBATION, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.keep, commands=_UNDO),
    (_P.ROLLING_BACK, RolledBack): _T(
        to=_P.ROLLED_BACK, superseded_to=_P.SUPERSEDED, effect=effects.drop, commands=_END
    ),
}

_RESUMES: dict[Phase, type[Command]] = {_P.FETCHING: FetchRelease, _P.READY: AwaitPermission}
"""Phases that a restart does not undo, and the command that each goes on with."""

_OPENING: dict[type[Event], Transition] = {
    Assigned: _T(to=_P.FETCHING, effect=effects.begin, commands=(FetchRelease,)),
    AssignmentRefused: _T(to=_P.REFUSED, effect=effects.refuse_assignment, commands=(ReportOutcome,)),
    AlreadyActive: _T(to=_P.COMMITTED, effect=effects.adopt, commands=(ReportOutcome,)),
}
"""Events that begin a deployment: on a fresh device, and wherever the last one has ended."""

_RESTING: tuple[Phase, ...] = (_P.COMMITTED, _P.ROLLED_BACK, _P.REFUSED, _P.SUPERSEDED)

TRANSITIONS: dict[tuple[Phase | None, type[Event]], Transition] = {
    **{(None, event): row for event, row in _OPENING.items() if event is not AlreadyActive},
    **{(phase, event): row for phase in _RESTING for event, row in _OPENING.items()},
    **_RUNNING,
    **{
        (phase, RollbackRequested): _T(to=_P.ROLLING_BACK, effect=effects.swap_back, commands=_UNDO)
        for phase in _RESTING
    },
    **{(phase, Reported): _T(to=phase, effect=effects.reported) for phase in _RESTING},
}
"""The whole machine. What is not here is illegal."""


# --- The machine -------------------------------------------------------------------------------------------------


def step(state: ModelState, event: Event, now: float) -> tuple[ModelState, tuple[Command, ...]]:
    """Apply one event at ``now`` (Unix seconds); returns the state to persist, and the commands to run after that.

    Raises:
        StaleEventError: the event is of another deployment than the one under way.
        IllegalEventError: the table has no such transition, or the event contradicts the state.
    """
    row = TRANSITIONS.get((state.phase, type(event)))
    _check_addressee(state, event)
    if row is None:
        where = "on a fresh device" if state.phase is None else f"in phase {state.phase}"
        raise IllegalEventError(f"model {state.model}: {type(event).__name__} is not allowed {where}")
    after = row.effect(state, event)
    deployment = current(after)
    to = row.superseded_to if row.superseded_to is not None and deployment.superseded else row.to
    moved = _move(state, after, to, getattr(event, "reason", None), now)
    return moved, tuple(build(kind, state, moved) for kind in row.commands)


def recover(state: ModelState, now: float, boot: str) -> tuple[ModelState, tuple[Command, ...]]:
    """The resume point after a crash or a restart at ``now``: persist it, then run the commands.

    ``ServeActive`` alone may run before: what is active was persisted long ago, and a full disk must not keep it from
    serving.

    Fetching and waiting go on, what has ended stays, everything else rolls back with reason code ``interrupted``. ``boot``
    names this start of the agent: each one is counted, and a deployment with which it starts again and again
    (:data:`STARTS_IN_A_ROW`, :data:`STARTS_IN_ALL`) is rolled back with reason code ``restart-loop``, and a rollback
    with which it does is called done. Idempotent: ``recover(recover(s, t, b)[0], u, b)[0] == recover(s, t, b)[0]``.
    """
    deployment, active = state.deployment, state.slots.active
    serve: tuple[Command, ...] = () if active is None else (ServeActive(active=active),)
    if deployment is None:
        return state, serve
    if deployment.final:
        report = (build(ReportOutcome, state, state),) if deployment.report_pending else ()
        return state, (*serve, *report)
    state, looping = _count_start(state, boot)
    resume = _RESUMES.get(deployment.phase)
    if resume is not None and not looping:
        return state, (*serve, build(resume, state, state))
    if deployment.phase is Phase.ROLLING_BACK:
        if (
            looping
        ):  # what it goes back to is the active release, which serves as it does after any other start
            ended, _ = step(state, RolledBack(deployment=deployment.deployment), now)
            return recover(ended, now, boot)
    else:
        reason = _stopped(current(state), looping=looping)
        # The way back has its own bound; this start is counted already.
        state = replace(state, deployment=replace(current(state), resumes=Resumes(boot=boot)))
        state = _move(state, state, Phase.ROLLING_BACK, reason, now)
    return state, (*serve, build(RestorePrevious, state, state))


def _count_start(state: ModelState, boot: str) -> tuple[ModelState, bool]:
    """The state with this start counted, and whether it was one too many."""
    deployment = current(state)
    resumes = deployment.resumes
    if resumes.boot != boot:
        resumes = Resumes(boot=boot, in_a_row=resumes.in_a_row + 1, in_all=resumes.in_all + 1)
        state = replace(state, deployment=replace(deployment, resumes=resumes))
    return state, resumes.in_a_row > STARTS_IN_A_ROW or resumes.in_all > STARTS_IN_ALL


def _stopped(deployment: DeploymentState, *, looping: bool) -> Reason:
    phase, resumes = deployment.phase.value, deployment.resumes
    if looping and deployment.phase in _RESUMES:
        times = resumes.in_a_row if resumes.in_a_row > STARTS_IN_A_ROW else resumes.in_all
        row = " in a row" if resumes.in_a_row > STARTS_IN_A_ROW else ""
        text = f"the agent stopped {times} times{row} while the deployment was {phase}"
        return Reason(code=RESTART_LOOP, text=text)
    return Reason(code=INTERRUPTED, text=f"the agent stopped while the deployment was {phase}")


def request_rollback(state: ModelState, reason: str | None) -> RollbackRequested:
    """The event of a technician's ``rollback``: stops the run under way, else goes from active to previous.

    Raises:
        NothingToRollBackToError: nothing is under way and no earlier release is kept.
    """
    deployment = state.deployment
    text = reason or "a technician asked for it"
    cause = Reason(code=OPERATOR_ROLLBACK, text=f"rolled back on the device: {text}")
    if deployment is not None and not deployment.final:
        return RollbackRequested(deployment=deployment.deployment, reason=cause)
    if state.slots.active is None or state.slots.previous is None:
        raise NothingToRollBackToError(f"model {state.model}: no earlier release is kept on this device")
    return RollbackRequested(deployment=state.slots.active.deployment, reason=cause)


def _check_addressee(state: ModelState, event: Event) -> None:
    """An event other than an opening one must be of the deployment under way (or of the active release, resting)."""
    if isinstance(event, Assigned | AssignmentRefused | AlreadyActive) or state.deployment is None:
        return
    expected = state.deployment.deployment
    if isinstance(event, RollbackRequested) and state.deployment.final and state.slots.active is not None:
        expected = state.slots.active.deployment
    if event.deployment != expected:
        raise StaleEventError(
            f"model {state.model}: {type(event).__name__} is of deployment {event.deployment}, not of {expected}"
        )


def _move(before: ModelState, after: ModelState, to: Phase, reason: Reason | None, now: float) -> ModelState:
    """``after`` in phase ``to``: stamps the time, keeps the first reason, and notes a run that has ended."""
    deployment = current(after)
    same_run = before.deployment is not None and before.deployment.deployment == deployment.deployment
    if same_run and before.phase is to:
        return after
    ended = to in FINAL_PHASES
    deployment = replace(
        deployment,
        phase=to,
        since=now,
        reason=reason or deployment.reason,
        outcome=deployment.outcome or (to if ended else None),
        report_pending=ended,
    )
    ids = after.ended
    if ended and deployment.deployment not in ids:
        ids = (*ids, deployment.deployment)[-ENDED_KEPT:]
    return replace(after, deployment=deployment, ended=ids)
