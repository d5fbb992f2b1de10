"""Any order of events: later stages wait, failures pause, an end is an end."""

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.rollouts.machine import (
    ENDED,
    TRANSITIONS,
    Abort,
    AssignDevices,
    Command,
    DeviceReported,
    DeviceRestored,
    Event,
    IllegalEventError,
    Outcome,
    Pause,
    RestoreDevices,
    Resume,
    RollBack,
    RolloutState,
    Status,
    Tick,
    begin,
    plan_stages,
    step,
)

DEVICES = ("a", "b", "c", "d", "e")
TIMEOUT = 50.0
KINDS = (Tick, DeviceReported, DeviceReported, DeviceRestored, Pause, Resume, Abort, RollBack)

stage_lists = st.sampled_from([(("a",), ("b", "c"), ("d", "e")), (DEVICES,), (("a", "b"), ("c",))])


@st.composite
def happenings(draw: st.DrawFn) -> tuple[float, Event]:
    """How much time passes, and what happens then (its own time is filled in by the test)."""
    kind = draw(st.sampled_from(KINDS))
    event: Event
    if kind is DeviceReported or kind is DeviceRestored:
        outcome: Outcome = draw(st.sampled_from(get_args(Outcome)))
        event = kind(now=0, device=draw(st.sampled_from(DEVICES)), outcome=outcome, reason="why")
    elif kind is Tick:
        event = Tick(now=0)
    else:
        event = kind(now=0, by="olga")
    return draw(st.floats(0, 30)), event


@given(stage_lists, st.integers(0, 2), st.lists(happenings(), max_size=40))
def test_whatever_happens(
    stages: tuple[tuple[str, ...], ...], allowed: int, story: list[tuple[float, Event]]
) -> None:
    now = 0.0
    state, commands = begin(stages, now=now, stage_timeout_seconds=TIMEOUT, allowed_failures=allowed)
    assigned, restored = _names(commands, AssignDevices), []
    for wait, happening in story:
        now += wait
        event = msgspec.structs.replace(happening, now=now)
        before = state
        if (state.status, type(event)) not in TRANSITIONS:
            with pytest.raises(IllegalEventError):
                step(state, event)
            continue
        state, commands = step(state, event)
        new = _names(commands, AssignDevices)
        assigned += new
        restored += _names(commands, RestoreDevices)
        _check(before, state, event, now)
        if new:
            # A stage begins only when all before it have answered, and only while the rollout runs.
            assert state.status is Status.RUNNING
            assert set(new) == set(stages[state.stage])
            earlier = [device for device in state.devices if device.stage < state.stage]
            assert all(device.outcome is not None for device in earlier)
        assert {device.device for device in state.devices if device.assigned} == set(assigned)
    # Nobody is asked twice by one rollout, and only who was asked is ever brought back.
    assert len(assigned) == len(set(assigned))
    assert len(restored) == len(set(restored))
    assert set(restored) <= set(assigned)
    assert msgspec.json.decode(msgspec.json.encode(state), type=RolloutState) == state


def _check(before: RolloutState, state: RolloutState, event: Event, now: float) -> None:
    if state.status is Status.RUNNING:
        assert len(state.failures) <= max(state.allowed_failures, state.accepted_failures)
        assert now - state.stage_started < TIMEOUT
    if before.status in ENDED and not isinstance(event, RollBack):
        assert state.status is before.status
    if state.status is Status.COMPLETED:
        assert all(device.outcome is not None for device in state.devices)
    if state.status is Status.PAUSED and before.status is Status.RUNNING:
        assert state.reason
        assert state.reason.startswith("paused by")
    if state.status is Status.ROLLED_BACK:
        assert all(device.restored for device in state.devices if device.assigned)


def _names(commands: tuple[Command, ...], kind: type[Command]) -> list[str]:
    return [device for command in commands if isinstance(command, kind) for device in command.devices]


@given(
    st.integers(1, 40),
    st.lists(
        st.one_of(
            st.tuples(st.just("count"), st.integers(1, 20)),
            st.tuples(st.just("percent"), st.integers(1, 100)),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_stages_take_each_device_at_most_once_and_in_order(size: int, sizes: list[tuple[str, int]]) -> None:
    fleet = tuple(f"d{number:02}" for number in range(size))
    stages = plan_stages(fleet, tuple(sizes))  # type: ignore[arg-type]  # drawn from the two literals
    flat = [device for stage in stages for device in stage]
    assert flat == list(fleet[: len(flat)])
    assert all(stages)
    if ("percent", 100) in sizes:
        assert len(flat) == size


def test_a_rollout_can_be_turned_back_from_every_status_that_is_not_on_its_way_back() -> None:
    for status in Status:
        if status not in (Status.ROLLING_BACK, Status.ROLLED_BACK):
            assert (status, RollBack) in TRANSITIONS
