from collections.abc import Callable

import msgspec
import pytest

from agent.drift import ClosedWindow, Identity, WindowBuilder
from agent.drift.signals import Tensors
from agent.drift.watch import Watch
from agent.protocol.drift import DriftReference

Batch = Callable[..., tuple[Tensors, Tensors]]


def close(builder: WindowBuilder, batch: tuple[Tensors, Tensors], now: float) -> ClosedWindow:
    builder.add(*batch, now)
    closed = builder.close(now + 1)
    assert closed is not None
    return closed


def test_an_alarm_needs_persistence_and_comes_with_the_window(
    identity: Identity, reference: DriftReference, batch: Batch
) -> None:
    builder = WindowBuilder(identity, reference)
    shifts = (0.0, 0.5, 0.5, 0.5)
    closed = [close(builder, batch(400, shift=shift), 10.0 * n) for n, shift in enumerate(shifts)]
    assert [one.window.verdict.level for one in closed] == ["ok", "drift", "drift", "drift"]
    alarms = [one.window.alarm for one in closed]
    assert [(alarm.level, alarm.since, alarm.windows) for alarm in alarms if alarm] == [
        ("ok", 1.0, 1),
        ("ok", 1.0, 2),
        ("drift", 21.0, 1),
        ("drift", 21.0, 2),
    ]


def test_a_runner_that_starts_again_goes_on_where_the_one_before_ended(
    identity: Identity, reference: DriftReference, batch: Batch
) -> None:
    batches = [batch(400, shift=shift) for shift in (0, 0, 0, 0, 0, 0, 0.6, 0.6, 0.6)]
    one = WindowBuilder(identity, reference)
    through = [close(one, rows, 10.0 * n) for n, rows in enumerate(batches)]
    again: list[ClosedWindow] = []
    state = b""
    for n, rows in enumerate(batches):
        builder = WindowBuilder(identity, reference, state=state)
        assert builder.forgot is None
        again.append(close(builder, rows, 10.0 * n))
        state = again[-1].state
    assert [closed.window.alarm for closed in again] == [closed.window.alarm for closed in through]
    assert [closed.state for closed in again] == [closed.state for closed in through]
    changed = [closed.window.alarm.changed for closed in through if closed.window.alarm]
    assert ["brightness" in names for names in changed] == [False] * 6 + [True, False, False]


def test_an_incomplete_window_is_no_evidence(
    identity: Identity, reference: DriftReference, batch: Batch
) -> None:
    builder = WindowBuilder(identity, reference)
    builder.add(*batch(400, shift=0.5), 0.0)
    for _ in range(3):
        so_far = builder.so_far(1.0)
        assert so_far is not None
        assert (so_far.window.alarm, so_far.state) == (None, b"")
    closed = builder.close(1.0)
    assert closed is not None
    assert closed.window.alarm is not None
    assert (closed.window.alarm.level, closed.window.alarm.windows) == ("ok", 1)


def test_the_state_of_64_signals_is_small(reference: DriftReference) -> None:
    many = msgspec.structs.replace(
        reference,
        signals=tuple(msgspec.structs.replace(reference.signals[0], name=f"s{n}") for n in range(64)),
    )
    assert len(Watch(many).state()) < 2_300


def test_a_state_of_no_use_is_said_and_left(reference: DriftReference) -> None:
    good = Watch(reference).state()
    other = msgspec.structs.replace(reference, signals=reference.signals[:-1])
    kept = msgspec.msgpack.decode(good)
    short = msgspec.msgpack.encode(kept | {"detectors": b"1234"})
    endless = msgspec.msgpack.encode(kept | {"detectors": b"\xff" * len(kept["detectors"])})
    for state, text in (
        (b"\xff\xff", "can't be read"),
        (good[:-1], "can't be read"),
        (Watch(other).state(), "of another reference"),
        (short, "4 bytes of detectors"),
        (endless, "not finite"),
    ):
        watch = Watch(reference, state)
        assert watch.problem is not None
        assert text in watch.problem
        assert watch.state() == good
    assert Watch(reference, good).problem is None


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_a_damaged_state_never_stops_a_model(reference: DriftReference, cut: int) -> None:
    good = bytearray(Watch(reference).state())
    good[cut] ^= 0xFF
    Watch(reference, bytes(good)).state()
