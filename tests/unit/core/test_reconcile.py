from typing import Any

import pytest
from msgspec.structs import replace

from agent.core.events import AlreadyActive, Assigned, AssignmentRefused, Reported, Superseded
from agent.core.model_state import ModelState
from agent.core.reconcile import Action, Plan, PlannedStep, reconcile
from agent.core.update_machine import step
from agent.protocol.state import FINAL_PHASES, Phase, Reason, ShadowPolicy, VariantPolicy
from agent.protocol.verification import RefusedAssignment, VerifiedAssignment

HELD = Reason(code="held-on-device", text="a technician holds this device")
WHY = Reason(code="not-approved", text="nobody signed it")
RUNNING = sorted(set(Phase) - FINAL_PHASES)


def refusal(release: int, deployment: str | None = None, *, model: str = "digits") -> RefusedAssignment:
    return RefusedAssignment(model=model, release=release, deployment=deployment or f"d{release}", reason=WHY)


def plan(
    *wanted: VerifiedAssignment,
    refused: tuple[RefusedAssignment, ...] = (),
    states: tuple[ModelState, ...] = (),
    hold: Reason | None = None,
) -> Plan:
    return reconcile(wanted, refused, {state.model: state for state in states}, hold=hold)


def only(plan: Plan) -> PlannedStep:
    (single,) = plan.steps
    return single


def actions(plan: Plan) -> list[tuple[str, Action]]:
    return [(each.model, each.action) for each in plan.steps]


# --- one model ---------------------------------------------------------------------------------------------------


def test_a_wanted_release_is_started_on_a_fresh_device_and_over_an_older_one(make: Any) -> None:
    wanted = make.assigned(2)
    for states in ((), (make.committed(1),)):
        planned = only(plan(wanted, states=states))
        assert (planned.action, planned.deployment, planned.release) == (Action.START, "d2", 2)
        assert planned.event == Assigned(deployment="d2", assignment=wanted)
        assert planned.reason.code == "assigned"


@pytest.mark.parametrize("phase", [None, *sorted(FINAL_PHASES)])
def test_nothing_wanted_is_nothing_to_do(make: Any, phase: Phase | None) -> None:
    planned = only(plan(states=(make.at(phase),)))
    assert (planned.action, planned.reason.code, planned.event) == (Action.NOTHING, "not-assigned", None)
    assert "nothing is installed" in planned.reason.text


def test_what_is_not_named_any_more_keeps_serving(make: Any) -> None:
    assert "release 3 keeps serving" in only(plan(states=(make.committed(3),))).reason.text


def test_the_committed_deployment_is_up_to_date(make: Any) -> None:
    planned = only(plan(make.assigned(2), states=(make.committed(2),)))
    assert (planned.action, planned.reason.code, planned.event) == (Action.NOTHING, "up-to-date", None)


def test_the_same_release_under_a_new_deployment_is_adopted(make: Any) -> None:
    wanted = make.assigned(2, "d9")
    planned = only(plan(wanted, states=(make.committed(2),)))
    assert (planned.action, planned.event) == (
        Action.ADOPT,
        AlreadyActive(deployment="d9", assignment=wanted),
    )
    # Another variant policy asks for another choice, so it is a run of its own.
    other = replace(wanted, assignment=replace(wanted.assignment, variant_policy=VariantPolicy.SMALLEST))
    assert only(plan(other, states=(make.committed(2),))).action is Action.START


def test_a_shadow_policy_alone_installs_nothing_anew(make: Any) -> None:
    wanted = make.assigned(2, "d9")
    compared = replace(wanted, assignment=replace(wanted.assignment, shadow=ShadowPolicy(requests=5)))
    assert only(plan(compared, states=(make.committed(2),))).action is Action.ADOPT


def test_a_hold_does_not_keep_what_serves_from_being_adopted(make: Any) -> None:
    planned = only(plan(make.assigned(2, "d9"), states=(make.committed(2),), hold=HELD))
    assert planned.action is Action.ADOPT


@pytest.mark.parametrize("phase", [Phase.REFUSED, Phase.ROLLED_BACK, Phase.SUPERSEDED])
def test_a_failed_deployment_is_not_tried_again_until_the_desired_state_changes(
    make: Any, phase: Phase
) -> None:
    failed = make.at(phase, deployment="d2", release=2, ended=("d2",))
    planned = only(plan(make.assigned(2), states=(failed,)))
    assert (planned.action, planned.reason.code, planned.event) == (Action.NOTHING, "not-retried", None)
    assert f"ended {phase.value}" in planned.reason.text
    assert only(plan(make.assigned(2, "d3"), states=(failed,))).action is Action.START


def test_an_older_failure_is_remembered_behind_a_newer_deployment(make: Any) -> None:
    state = make.at(Phase.COMMITTED, deployment="d3", release=3, ended=("d2", "d3"))
    planned = only(plan(make.assigned(2), states=(state,)))
    assert (planned.action, planned.reason.code) == (Action.NOTHING, "not-retried")


# --- hold --------------------------------------------------------------------------------------------------------


def test_a_technicians_hold_keeps_a_new_run_from_starting_and_says_so(make: Any) -> None:
    held = plan(make.assigned(2), states=(make.committed(1),), hold=HELD)
    assert only(held).action is Action.WAIT
    assert only(held).event is None
    assert held.waiting_for("digits") == HELD
    assert held.waiting_for("faces") is None


def test_the_hubs_own_hold_waits_too_and_the_technicians_reason_comes_first(make: Any) -> None:
    wanted = make.assigned(2, hold=True)
    assert only(plan(wanted)).reason.code == "held-by-hub"
    assert only(plan(wanted, hold=HELD)).reason == HELD


@pytest.mark.parametrize("phase", RUNNING)
def test_a_hold_does_not_stop_a_run_under_way(make: Any, phase: Phase) -> None:
    state = make.at(phase, deployment="d2", release=2)
    planned = only(plan(make.assigned(2), states=(state,), hold=HELD))
    assert (planned.action, planned.event) == (Action.CONTINUE, None)
    assert phase.value in planned.reason.text


@pytest.mark.parametrize("phase", [each for each in RUNNING if each is not Phase.ROLLING_BACK])
def test_a_withdrawal_beats_a_hold(make: Any, phase: Phase) -> None:
    planned = only(plan(states=(make.at(phase),), hold=HELD))
    assert planned.action is Action.SUPERSEDE
    assert isinstance(planned.event, Superseded)


# --- the floor ---------------------------------------------------------------------------------------------------


def test_below_the_floor_is_refused_with_the_figures(make: Any) -> None:
    planned = only(plan(make.assigned(2), states=(make.committed(5),)))
    assert (planned.action, planned.reason.code) == (Action.REFUSE, "below-floor")
    assert planned.event == AssignmentRefused(deployment="d2", release=2, reason=planned.reason)
    assert "release 2" in planned.reason.text
    assert "5" in planned.reason.text


def test_a_release_that_was_committed_here_may_come_back(make: Any) -> None:
    state = make.committed(5, previous=2)
    assert only(plan(make.assigned(2, "d9"), states=(state,))).action is Action.START
    assert only(plan(make.assigned(5, "d9"), states=(state,))).action is Action.ADOPT
    assert only(plan(make.assigned(4, "d9"), states=(state,))).action is Action.REFUSE


def test_an_ended_deployment_below_the_floor_is_not_refused_a_second_time(make: Any) -> None:
    state = replace(make.committed(5), ended=("d2", "d5"))
    planned = only(plan(make.assigned(2), states=(state,)))
    assert (planned.action, planned.reason.code) == (Action.NOTHING, "not-retried")


# --- refused and ambiguous ---------------------------------------------------------------------------------------


def test_a_refusal_ends_its_deployment_once(make: Any) -> None:
    planned = only(plan(refused=(refusal(2),), states=(make.committed(1),)))
    assert (planned.action, planned.reason) == (Action.REFUSE, WHY)
    assert planned.event is not None
    state, _ = step(make.committed(1), planned.event, 5.0)
    settled, _ = step(state, _reported(state), 6.0)
    again = only(plan(refused=(refusal(2),), states=(settled,)))
    assert (again.action, again.reason.code, again.event) == (Action.NOTHING, "not-retried", None)
    assert WHY.text in again.reason.text


def test_the_newest_refusal_is_the_one_that_is_shown(make: Any) -> None:
    state = replace(make.committed(1), ended=("d1", "d2", "d3"))
    planned = only(plan(refused=(refusal(2), refusal(3)), states=(state,)))
    assert "release 3 was refused" in planned.reason.text


def test_a_refused_and_a_wanted_release_of_one_model_come_one_after_the_other(make: Any) -> None:
    state = make.committed(1)
    first = plan(make.assigned(3), refused=(refusal(2),), states=(state,))
    assert [each.action for each in first.steps] == [Action.REFUSE, Action.WAIT]
    assert [each.event is not None for each in first.steps] == [True, False]
    event = first.steps[0].event
    assert event is not None
    refused, _ = step(state, event, 5.0)
    between = only(plan(make.assigned(3), refused=(refusal(2),), states=(refused,)))
    assert (between.action, between.reason.code) == (Action.WAIT, "earlier-run-ends")
    settled, _ = step(refused, _reported(refused), 6.0)
    assert only(plan(make.assigned(3), refused=(refusal(2),), states=(settled,))).action is Action.START


def test_two_releases_of_one_model_are_both_refused_one_at_a_time(make: Any) -> None:
    state = make.committed(1)
    seen = []
    for now in (5.0, 6.0):
        planned = only(plan(make.assigned(2), make.assigned(3), states=(state,)))
        assert planned.reason.code == "ambiguous-assignment"
        assert "2 releases: 2, 3" in planned.reason.text
        assert planned.event is not None
        state, _ = step(state, planned.event, now)
        state, _ = step(state, _reported(state), now)
        seen.append(planned.deployment)
    assert seen == ["d2", "d3"]
    assert only(plan(make.assigned(2), make.assigned(3), states=(state,))).action is Action.NOTHING
    assert state.slots == make.committed(1).slots


def test_nothing_begins_before_the_outcome_before_is_recorded(make: Any) -> None:
    state = make.at(Phase.COMMITTED, deployment="d1", ended=("d1",), report_pending=True)
    for wanted, refused in ((make.assigned(2), ()), (None, (refusal(2),))):
        planned = plan(*([wanted] if wanted else []), refused=refused, states=(state,))
        assert [each.event for each in planned.steps] == [None]
        assert planned.steps[0].reason.code == "earlier-run-ends"


# --- a run under way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", RUNNING)
def test_a_run_that_is_not_wanted_any_more_is_ended_before_the_next_begins(make: Any, phase: Phase) -> None:
    planned = plan(make.assigned(2), states=(make.at(phase),))
    first, *rest = planned.steps
    if phase is Phase.ROLLING_BACK:
        assert not rest
    else:
        assert first.action is Action.SUPERSEDE
        assert first.event == Superseded(deployment="d1", reason=first.reason)
        assert "release 2" in first.reason.text
        (first,) = rest
    assert (first.action, first.deployment, first.event) == (Action.WAIT, "d2", None)


def test_a_run_that_is_being_undone_is_left_to_end(make: Any) -> None:
    planned = only(plan(states=(make.at(Phase.ROLLING_BACK),)))
    assert (planned.action, planned.event) == (Action.NOTHING, None)


# --- many models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", RUNNING)
@pytest.mark.parametrize("hold", [None, HELD])
def test_a_stuck_model_never_blocks_another(make: Any, phase: Phase, hold: Reason | None) -> None:
    stuck = make.at(phase, model="aa")
    alone = plan(make.assigned(2), states=(make.committed(1),), hold=hold)
    beside = plan(
        make.assigned(1, model="aa"), make.assigned(2), states=(stuck, make.committed(1)), hold=hold
    )
    assert [each for each in beside.steps if each.model == "digits"] == list(alone.steps)
    assert [each.action for each in beside.steps if each.model == "aa"] == [Action.CONTINUE]


def test_each_model_is_decided_alone_and_in_order_of_name(make: Any) -> None:
    wanted = (make.assigned(2, model="zz"), make.assigned(1, model="ff"), make.assigned(1, model="gg"))
    bad = (refusal(7, model="mm"), refusal(8, model="ff"))
    states = (
        make.committed(5, model="gg"),
        make.at(Phase.FETCHING, model="bb", deployment="d1"),
        make.at(None, model="cc"),
        make.at(Phase.REFUSED, model="dd", ended=("d1",), report_pending=True),
    )
    planned = plan(*wanted, refused=bad, states=states)
    assert actions(planned) == [
        ("bb", Action.SUPERSEDE),
        ("cc", Action.NOTHING),
        ("dd", Action.NOTHING),
        ("ff", Action.REFUSE),
        ("ff", Action.WAIT),
        ("gg", Action.REFUSE),
        ("mm", Action.REFUSE),
        ("zz", Action.START),
    ]


def test_every_planned_event_is_legal_now_and_a_model_has_at_most_one(make: Any) -> None:
    everything = [make.at(phase, model=f"m{number}") for number, phase in enumerate((None, *Phase))]
    wanted = [make.assigned(2, model=state.model) for state in everything]
    for good, bad in ((wanted, ()), ((), tuple(refusal(2, model=state.model) for state in everything))):
        planned = plan(*good, refused=tuple(bad), states=tuple(everything))
        with_event = [each for each in planned.steps if each.event is not None]
        assert len({each.model for each in with_event}) == len(with_event)
        states = {state.model: state for state in everything}
        for each in with_event:
            assert each.event is not None
            step(states[each.model], each.event, 9.0)


def test_an_event_belongs_to_the_model_it_is_planned_for(make: Any) -> None:
    planned = plan(
        make.assigned(1, model="aa"), make.assigned(1, model="bb"), states=(ModelState(model="cc"),)
    )
    assert {each.model for each in planned.steps} == {"aa", "bb", "cc"}
    for each in planned.steps:
        if isinstance(each.event, Assigned):
            assert each.event.assignment.model == each.model


def _reported(state: ModelState) -> Reported:
    assert state.deployment is not None
    return Reported(deployment=state.deployment.deployment)


def test_a_run_is_known_by_its_deployment_not_by_its_release(make: Any) -> None:
    state = make.at(Phase.PROBING, deployment="d1", release=2)
    planned = plan(make.assigned(2, "d9"), states=(state,))
    assert [each.action for each in planned.steps] == [Action.SUPERSEDE, Action.WAIT]


def test_an_older_failure_is_not_told_with_a_newer_ones_reason(make: Any) -> None:
    state = make.at(Phase.REFUSED, deployment="d3", release=3, ended=("d2", "d3"))
    told = only(
        plan(make.assigned(2), states=(replace(state, deployment=replace(state.deployment, reason=WHY)),))
    )
    assert WHY.text not in told.reason.text
