import time
from collections.abc import Callable

import pytest

from agent.protocol.latency import RELATIVE_ERROR, LatencySketch
from agent.runner.statistics import Duration, ServingStatistics


def test_the_report_counts_good_failed_refused_and_turned_away_apart() -> None:
    statistics = ServingStatistics()
    assert not statistics.changed()
    statistics.answered(0.010, failed=False)
    statistics.answered(0.020, failed=True)
    statistics.refused()
    statistics.turned_away()
    assert statistics.changed()
    report = statistics.report()
    assert (report.requests, report.failures, report.refused, report.turned_away) == (2, 1, 1, 1)
    assert (report.recent.failures, report.recent.turned_away) == (1, 1)
    assert report.p99_ms is not None
    assert report.p50_ms == pytest.approx(10, rel=RELATIVE_ERROR * 1.0001)
    assert not statistics.changed()


@pytest.mark.parametrize("happened", [ServingStatistics.refused, ServingStatistics.turned_away])
def test_what_was_not_answered_is_a_change_but_no_latency(
    happened: Callable[[ServingStatistics], None],
) -> None:
    statistics = ServingStatistics()
    happened(statistics)
    assert statistics.changed()
    assert statistics.report().p50_ms is None


def test_each_report_carries_what_came_since_the_last_and_the_quantiles_of_all() -> None:
    statistics = ServingStatistics()
    for _ in range(9):
        statistics.answered(0.010, failed=False)
    first = statistics.report()
    statistics.answered(0.500, failed=True)
    second = statistics.report()
    assert sum(count for _, count in first.recent.latencies.counts) == 9
    assert sum(count for _, count in second.recent.latencies.counts) == 1
    assert (first.recent.failures, second.recent.failures) == (0, 1)
    assert second.p50_ms == pytest.approx(10, rel=RELATIVE_ERROR * 1.0001)
    everything = LatencySketch.of([first.recent.latencies, second.recent.latencies]).quantile(1.0)
    assert everything == pytest.approx(0.5, rel=RELATIVE_ERROR * 1.0001)


def test_the_protocols_statistics_add_up_the_parts_of_what_succeeded() -> None:
    statistics = ServingStatistics()
    before = time.time()
    statistics.answered(0.010, failed=False, queued=0.001, decoding=0.002, inferring=0.003, rows=4)
    statistics.answered(
        0.030, failed=False, queued=0.004, decoding=0.005, inferring=0.006, rows=2, executions=0
    )
    statistics.answered(0.5, failed=True, queued=0.1, decoding=0.1, inferring=0.1, rows=9)
    told = statistics.inference()
    assert told.success == Duration(2, 40_000_000)
    assert told.fail == Duration(1, 500_000_000)
    assert told.queue == Duration(2, 5_000_000)
    assert told.compute_input == Duration(2, 7_000_000)
    assert told.compute_infer == Duration(2, 9_000_000)
    assert told.compute_output == Duration(2, 19_000_000)
    assert (told.inference_count, told.execution_count) == (6, 1)
    assert before * 1e3 - 1 <= told.last_inference <= time.time() * 1e3


def test_a_fresh_runner_has_inferred_nothing() -> None:
    told = ServingStatistics().inference()
    assert (told.success, told.fail, told.last_inference) == (Duration(0, 0), Duration(0, 0), 0)
