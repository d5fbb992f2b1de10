"""A hold: survives a restart, is recorded, and has everyone decide anew."""

import pytest

from agent.protocol.telemetry import Event
from agent.service.hold import Hold, load_hold
from tests.unit.service.world import ListRecorder, MemoryState


def held(state: MemoryState, recorder: ListRecorder, changes: list[str]) -> Hold:
    return Hold(None, state, recorder, clock=lambda: 7.0, changed=lambda: changes.append("changed"))


async def test_a_hold_survives_a_restart_with_its_reason() -> None:
    state, recorder, changes = MemoryState(), ListRecorder(), list[str]()
    hold = held(state, recorder, changes)
    await hold.set("the belt is being cleaned")
    assert hold.reason is not None
    assert hold.reason.code == "held-on-device"
    assert hold.reason.text == "a technician holds this device: the belt is being cleaned"
    assert await load_hold(state) == hold.reason
    assert changes == ["changed"]
    assert recorder.bodies == [Event(time=7.0, severity="info", kind="hold", text=hold.reason.text)]


async def test_resuming_ends_it_after_a_restart_too() -> None:
    state, recorder, changes = MemoryState(), ListRecorder(), list[str]()
    hold = held(state, recorder, changes)
    await hold.set(None)
    await hold.clear()
    assert hold.reason is None
    assert await load_hold(state) is None
    assert changes == ["changed", "changed"]
    assert [body.kind for body in recorder.bodies if isinstance(body, Event)] == ["hold", "resume"]


async def test_a_device_that_was_never_held_is_not_held() -> None:
    assert await load_hold(MemoryState()) is None


async def test_a_hold_that_cant_be_stored_does_not_hold() -> None:
    state, recorder, changes = MemoryState(), ListRecorder(), list[str]()
    state.broken = OSError(28, "No space left on device")
    hold = held(state, recorder, changes)
    with pytest.raises(OSError, match="No space left"):
        await hold.set("why")
    assert hold.reason is None
    assert (changes, recorder.bodies) == ([], [])
