"""What the hub and people ask, as the worker, the gate and the technician hear it."""

from msgspec.structs import replace

from agent.core.events import Assigned, Superseded
from agent.core.model_state import DeploymentState, ModelState
from agent.core.preconditions import Order, Waiting
from agent.core.reconcile import Action
from agent.core.slots import Slots
from agent.protocol.state import ModelRelease, Phase, Reason
from agent.protocol.verification import VerifyResult
from agent.service.wanted import Wanted
from tests.unit.service.world import REASON, assigned, installed

HELD = Reason(code="held-on-device", text="a technician holds this device")
ON_ONE = ModelState(model="digits", slots=Slots(active=installed(1), floor=1, committed=(1,)), ended=("d1",))
READY = replace(
    ON_ONE,
    slots=replace(ON_ONE.slots, candidate=installed(2)),
    deployment=DeploymentState(deployment="d2", model="digits", release=2, phase=Phase.READY, since=1.0),
)
WANTS_TWO = VerifyResult(assignments=(assigned(2),))
ONE_IS_WITHDRAWN = replace(WANTS_TWO, withdrawn=(ModelRelease(model="digits", release=1),))


def test_before_the_first_desired_state_nothing_is_begun_or_ended() -> None:
    wanted = Wanted(verified=None, hold=None)
    assert wanted.next_event(ON_ONE) is None
    assert wanted.next_event(READY) is None
    assert wanted.order(READY, "d2") == Order()


def test_what_was_verified_before_a_restart_waits_until_that_is_known_again() -> None:
    why = Reason(code="expired", text="digits: expired")
    assert Wanted(verified=None, hold=None, unverified=why).order(READY, "d2") == Order(hold=why)
    assert Wanted(verified=None, hold=HELD, unverified=why).order(READY, "d2") == Order(hold=why)
    assert Wanted(verified=WANTS_TWO, hold=None, unverified=why).order(READY, "d2") == Order()


def test_a_hold_keeps_a_rollout_and_not_a_withdrawal() -> None:
    held = Wanted(verified=WANTS_TWO, hold=HELD)
    assert held.next_event(ON_ONE) is None
    assert held.order(READY, "d2") == Order(hold=HELD)
    withdrawn = Wanted(verified=ONE_IS_WITHDRAWN, hold=HELD)
    assert isinstance(withdrawn.next_event(ON_ONE), Assigned)
    assert withdrawn.order(READY, "d2") == Order(urgent=True)


def test_a_withdrawn_release_of_another_model_or_one_that_does_not_serve_overrules_nothing() -> None:
    for model, release in (("faces", 1), ("digits", 7)):
        other = replace(WANTS_TWO, withdrawn=(ModelRelease(model=model, release=release),))
        wanted = Wanted(verified=other, hold=HELD)
        assert wanted.next_event(ON_ONE) is None
        assert wanted.order(READY, "d2") == Order(hold=HELD)


def test_the_hubs_hold_holds_what_it_is_said_of() -> None:
    holding = assigned(2)
    holding = replace(holding, assignment=replace(holding.assignment, hold=True))
    wanted = Wanted(verified=VerifyResult(assignments=(holding,)), hold=None)
    hold = wanted.order(READY, "d2").hold
    assert hold is not None
    assert hold.code == "held-by-hub"
    assert wanted.order(READY, "d9") == Order()


def test_what_has_expired_holds_even_what_is_urgent() -> None:
    wanted = Wanted(verified=ONE_IS_WITHDRAWN, hold=None, expired=lambda _: REASON)
    assert wanted.next_event(ON_ONE) is None
    assert wanted.order(READY, "d2") == Order(hold=REASON, urgent=True)


def test_a_plan_says_what_a_run_under_way_waits_for() -> None:
    wanted = Wanted(verified=WANTS_TWO, hold=None)
    waiting = {"digits": Waiting(reason=REASON, until=9.0)}
    (step,) = wanted.plan({"digits": READY}, waiting).steps
    assert (step.action, step.reason, step.deployment) == (Action.WAIT, REASON, "d2")
    (goes_on,) = wanted.plan({"digits": READY}, {}).steps
    assert goes_on.action is Action.CONTINUE
    other = Wanted(verified=VerifyResult(assignments=(assigned(3),)), hold=None)
    steps = other.plan({"digits": READY}, waiting).steps
    assert isinstance(steps[0].event, Superseded), "what is to be ended does not wait"
