from collections import Counter

import numpy as np

from agent.drift import ClosedWindow, Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy
from agent.runner.drift_log import MOST_CLOSED, OPEN_SECONDS, DriftLog, SlicedDriftLog
from agent.runner.request_facts import NO_FACTS, RequestFacts
from tests.unit.runner.sliced import sliced

ROWS = np.random.default_rng(0).uniform(0, 1, (400, 2)).astype(np.float32)
SLICES = 17
"""The most that a policy allows, and "other"."""


def window_of(rows: int) -> WindowBuilder:
    reference = build_reference(
        [SignalSpec(name="mean", source="input", tensor="x", summary="mean")],
        inputs={"x": ROWS},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=rows, window_seconds=60, minimum_rows=min(rows, 300)),
    )
    return WindowBuilder(Identity(model="m", release=1, deployment="d", artifact="0" * 64), reference)


def test_a_window_closes_when_it_is_full_or_old_or_at_the_end() -> None:
    closed = list[ClosedWindow]()
    log = DriftLog(window_of(300), closed.append, lambda _: None)
    log.add({"x": ROWS[:299]}, {}, NO_FACTS, 0.0)
    log.tick(0.0)
    assert closed == []
    log.add({"x": ROWS[299:300]}, {}, NO_FACTS, 0.0)
    assert [one.window.rows for one in closed] == [300]
    log.add({"x": ROWS[:5]}, {}, NO_FACTS, 0.0)
    log.tick(61.0)
    assert [one.window.rows for one in closed] == [300, 5]
    log.add({"x": ROWS[:7]}, {}, NO_FACTS, 61.0)
    log.close(61.0)
    log.close(61.0)
    assert [one.window.rows for one in closed] == [300, 5, 7]


def test_how_far_an_open_window_is_is_told_every_few_seconds_by_a_tick() -> None:
    told = list[ClosedWindow]()
    log = DriftLog(window_of(300), lambda _: None, told.append)
    last, oldest = 99.0, 99.5
    for tick in range(100, 115):
        log.add({"x": ROWS[:2]}, {}, NO_FACTS, tick - 0.5)
        assert not [one for one in told if one.window.closed > last], "no request waits for it"
        assert tick - oldest <= OPEN_SECONDS, "nor is a row ever untold for longer than promised"
        log.tick(float(tick))
        if told:
            last, oldest = told[-1].window.closed, told[-1].window.closed + 0.5
    assert [one.window.rows for one in told] == [10, 18, 26]
    log.tick(40.0)  # the clock is put back
    assert [one.window.rows for one in told] == [10, 18, 26, 30]
    assert all(one.window.incomplete for one in told)


def test_a_window_in_which_nothing_came_is_not_told_again() -> None:
    told = list[ClosedWindow]()
    log = DriftLog(window_of(300), lambda _: None, told.append)
    log.add({"x": ROWS[:2]}, {}, NO_FACTS, 100.0)
    for tick in range(600):
        log.tick(100.0 + tick / 10)
    assert [one.window.rows for one in told] == [2]
    log.tick(160.0)
    log.add({"x": ROWS[:2]}, {}, NO_FACTS, 161.0)  # the next window, of as many rows
    log.tick(165.0)
    assert [one.window.rows for one in told] == [2, 2]


def asked(log: SlicedDriftLog, now: float) -> None:
    """A request of each slice that there may be."""
    for number in range(SLICES):
        log.add({"x": ROWS[:2]}, {}, RequestFacts("", f"{number:02}"), now)


def test_slices_are_told_in_turn_one_a_tick() -> None:
    told = list[ClosedWindow]()
    log, _ = sliced(DriftPolicy(window_rows=10**6, window_seconds=1e6), told.append, maximum=SLICES - 1)
    asked(log, 100.0)
    seen = {f"camera={number:02}": 100.0 for number in range(SLICES - 1)} | {"camera=other": 100.0}
    for second in range(101, 161):
        before = len(told)
        log.tick(second + 0.01)
        log.tick(second + 0.02)  # labels were passed on
        now = [one.window.slice for one in told[before:]]
        assert len(now) - now.count(None) == (second >= 104)
        assert now.count(None) <= 1
        seen |= {name: float(second) for name in now if name is not None}
        assert second - min(seen.values()) <= OPEN_SECONDS + SLICES
        asked(log, second + 0.5)
    assert {one.window.slice for one in told} == {None, *seen}
    for one in told:
        assert sum(one.window.signals["x0"].counts) == one.window.rows, "with all of its rows"


def test_a_request_closes_its_own_slice_and_a_tick_a_few_of_those_that_are_old() -> None:
    log, closed = sliced(DriftPolicy(window_rows=300, window_seconds=60), maximum=SLICES - 1)
    asked(log, 100.0)
    log.add({"x": ROWS[:2]}, {}, RequestFacts("", "03"), 161.0)
    assert [one.window.slice for one in closed] == [None, "camera=03"]
    closed.clear()
    for second in range(-(-(SLICES - 1) // MOST_CLOSED)):
        before = len(closed)
        log.tick(162.0 + second)
        assert 1 <= len(closed) - before <= MOST_CLOSED
    assert len({one.window.slice for one in closed}) == len(closed) == SLICES - 1


def test_slices_that_are_always_old_enough_are_closed_in_turn() -> None:
    log, closed = sliced(DriftPolicy(window_rows=300, window_seconds=1), maximum=SLICES - 1)
    for second in range(100, 112):
        asked(log, second + 0.5)
        log.tick(second + 1.5)
    counted = Counter(one.window.slice for one in closed)
    assert len(counted) == SLICES + 1
    assert min(counted.values()) >= 2
