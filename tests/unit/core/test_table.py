from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from agent.core.diagram import page
from agent.core.errors import IllegalEventError, NothingToRollBackToError
from agent.core.events import AssignmentRefused, Event
from agent.core.model_state import DeploymentState, ModelState
from agent.core.update_machine import TRANSITIONS, request_rollback, step
from agent.protocol.state import FINAL_PHASES, Phase, Reason

WHY = Reason(code="test", text="because")
ILLEGAL = [
    (phase, kind) for phase in (None, *Phase) for kind in get_args(Event) if (phase, kind) not in TRANSITIONS
]


def state_in(phase: Phase | None) -> ModelState:
    if phase is None:
        return ModelState(model="digits")
    run = DeploymentState(deployment="d1", model="digits", release=1, phase=phase, since=1.0)
    return ModelState(model="digits", deployment=run)


@pytest.mark.parametrize(("phase", "kind"), ILLEGAL, ids=str)
def test_every_pair_that_is_not_in_the_table_raises(phase: Phase | None, kind: type[Event]) -> None:
    state = state_in(phase)
    # Only the kind and the addressee are looked at before the table refuses it; the rest may be anything.
    fields: dict[str, Any] = dict.fromkeys(kind.__struct_fields__, WHY)
    event = kind(**{**fields, "deployment": "d1"})
    before = msgspec.json.encode(state)
    with pytest.raises(IllegalEventError, match=kind.__name__):
        step(state, event, 2.0)
    assert msgspec.json.encode(state) == before


def test_every_phase_that_ends_nothing_has_a_way_to_an_end() -> None:
    for start in set(Phase) - FINAL_PHASES:
        reached, todo = {start}, [start]
        while todo:
            phase = todo.pop()
            for (origin, _), row in TRANSITIONS.items():
                if origin is phase and row.to not in reached:
                    reached.add(row.to)
                    todo.append(row.to)
        assert reached & FINAL_PHASES, start


def test_a_fresh_device_has_nothing_to_roll_back_to() -> None:
    with pytest.raises(NothingToRollBackToError, match="no earlier release"):
        request_rollback(ModelState(model="digits"), None)


def test_a_refused_assignment_ends_with_its_reason_and_is_not_run_again() -> None:
    event = AssignmentRefused(deployment="d1", release=3, reason=WHY)
    state, commands = step(ModelState(model="digits"), event, 5.0)
    assert state.deployment is not None
    assert (state.deployment.phase, state.deployment.reason, state.ended) == (Phase.REFUSED, WHY, ("d1",))
    assert len(commands) == 1


def test_diagram_is_current() -> None:
    docs = Path(__file__).parents[3] / "docs" / "update-machine.md"
    assert docs.read_text(encoding="utf-8") == page(), "see the command at the head of that page"
