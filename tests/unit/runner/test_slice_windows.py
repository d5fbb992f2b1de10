"""Windows of slices close by their own rows and age, and a batch that is refused belongs to nobody."""

import numpy as np
import pytest

from agent.drift import ClosedWindow, SignalError
from agent.protocol.drift import DriftPolicy, SlicePolicy
from agent.runner.request_facts import NO_FACTS, RequestFacts
from agent.runner.slice_names import SliceNames
from tests.unit.runner.sliced import ROWS, sliced

LEFT, RIGHT = RequestFacts("", "left"), RequestFacts("", "right")


def rows_of(closed: list[ClosedWindow]) -> list[tuple[str | None, int]]:
    return [(one.window.slice, one.window.rows) for one in closed]


def test_each_window_closes_by_its_own_rows() -> None:
    log, closed = sliced(DriftPolicy(window_rows=300, window_seconds=60, minimum_rows=300))
    for _ in range(29):
        log.add({"x": ROWS[:10]}, {}, LEFT, 0.0)
    log.add({"x": ROWS[:10]}, {}, RIGHT, 0.0)
    assert rows_of(closed) == [(None, 300)]
    log.add({"x": ROWS[:10]}, {}, LEFT, 0.0)
    assert rows_of(closed) == [(None, 300), ("camera=left", 300)]
    log.close(1.0)
    assert rows_of(closed)[2:] == [(None, 10), ("camera=right", 10)]


def test_each_window_closes_by_its_own_age() -> None:
    log, closed = sliced(DriftPolicy(window_rows=300, window_seconds=60, minimum_rows=300))
    log.add({"x": ROWS[:1]}, {}, NO_FACTS, 0.0)
    log.add({"x": ROWS[:2]}, {}, LEFT, 30.0)
    log.tick(60.0)
    assert rows_of(closed) == [(None, 3)]
    log.tick(90.0)
    assert rows_of(closed) == [(None, 3), ("camera=left", 2)]


def test_a_batch_that_is_refused_is_nobodys() -> None:
    log, closed = sliced(DriftPolicy(window_rows=300, window_seconds=60, minimum_rows=300))
    log.add({"x": ROWS[:4]}, {}, LEFT, 0.0)
    with pytest.raises(SignalError):
        log.add({"x": np.array(["a"] * 7, dtype=object)}, {}, LEFT, 0.0)
    with pytest.raises(KeyError):
        log.add({"other": ROWS[:7]}, {}, RIGHT, 0.0)
    log.add({"x": ROWS[:3]}, {}, RIGHT, 0.0)
    log.close(1.0)
    assert rows_of(closed) == [(None, 7), ("camera=left", 4), ("camera=right", 3)]


def test_a_sick_slice_is_seen_where_the_whole_looks_well() -> None:
    log, closed = sliced(DriftPolicy(window_rows=6_000, window_seconds=60, minimum_rows=300))
    rng = np.random.default_rng(1)
    for _ in range(190):
        log.add({"x": rng.uniform(0, 1, (30, 2)).astype(np.float32)}, {}, LEFT, 0.0)
    log.add({"x": rng.uniform(0.6, 1, (300, 2)).astype(np.float32)}, {}, RIGHT, 0.0)
    log.close(1.0)
    level = {one.window.slice: one.window.verdict.level for one in closed}
    assert level == {None: "ok", "camera=left": "ok", "camera=right": "drift"}


def test_slices_from_before_a_restart_are_told_apart_again() -> None:
    policy = SlicePolicy(parameter="camera", maximum=2)
    known = ["", "camera=left", "camera=other", "site=x", "camera=right", "camera=third"]
    names = SliceNames(policy, known)
    found = [names.name(RequestFacts("", value)) for value in ("new", "right", "left", None)]
    assert found == ["camera=other", "camera=right", "camera=left", None]
