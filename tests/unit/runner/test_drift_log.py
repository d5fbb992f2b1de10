import logging

import numpy as np
import pytest

from agent.drift import Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, DriftWindow
from agent.runner.drift_log import DriftLog

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
    now, closed = [0.0], list[DriftWindow]()
    log = DriftLog(window_of(300), lambda: now[0], closed.append)
    log.add({"x": ROWS[:299]}, {})
    log.tick()
    assert closed == []
    log.add({"x": ROWS[299:300]}, {})
    assert [window.rows for window in closed] == [300]
    log.add({"x": ROWS[:5]}, {})
    now[0] = 61.0
    log.tick()
    assert [window.rows for window in closed] == [300, 5]
    log.add({"x": ROWS[:7]}, {})
    log.close()
    log.close()
    assert [window.rows for window in closed] == [300, 5, 7]
    assert log.errors == 0


def test_an_error_is_logged_once_counted_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    log = DriftLog(window_of(300), lambda: 0.0, lambda _: None)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            log.add({"other": ROWS}, {})
    assert log.errors == 3
    assert len(caplog.records) == 1
    log.add({"x": ROWS[:5]}, {})
    assert log.errors == 3


def test_a_receiver_that_fails_does_not_stop_the_bookkeeping(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: DriftWindow) -> None:
        raise OSError("nobody reads")

    log = DriftLog(window_of(300), lambda: 0.0, refuse)
    log.add({"x": ROWS[:300]}, {})
    log.tick()
    log.close()
    assert log.errors == 1
