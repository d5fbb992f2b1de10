import numpy as np

from agent.drift import ClosedWindow, Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy
from agent.runner.drift_log import DriftLog
from agent.runner.request_facts import NO_FACTS

ROWS = np.random.default_rng(0).uniform(0, 1, (400, 2)).astype(np.float32)


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


def test_how_far_an_open_window_is_is_told_every_few_seconds() -> None:
    told = list[ClosedWindow]()
    log = DriftLog(window_of(300), lambda _: None, told.append)
    for second in range(100, 112):
        log.add({"x": ROWS[:2]}, {}, NO_FACTS, float(second))
    assert [one.window.rows for one in told] == [2, 12, 22]
    log.tick(40.0)  # the clock is put back
    assert [one.window.rows for one in told] == [2, 12, 22, 24]
    assert all(one.window.incomplete for one in told)
