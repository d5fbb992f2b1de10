import numpy as np
import pytest

from agent.runner.statistics import LONGEST, RELATIVE_ERROR, SHORTEST, LatencySketch, ServingStatistics


def filled(values: list[float]) -> LatencySketch:
    sketch = LatencySketch()
    for value in values:
        sketch.add(value)
    return sketch


def test_an_empty_sketch_has_no_quantile() -> None:
    assert LatencySketch().quantile(0.5) is None


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_within_the_stated_relative_error(fraction: float) -> None:
    values = np.random.default_rng(3).lognormal(-7, 1.5, 5_000)
    exact = float(np.quantile(values, fraction, method="lower"))
    found = filled(values.tolist()).quantile(fraction)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)


def test_what_is_out_of_range_counts_at_its_end() -> None:
    sketch = filled([0.0, -1.0, 1e9])
    assert sketch.quantile(0.0) == pytest.approx(SHORTEST, rel=0.02)
    assert sketch.quantile(1.0) == pytest.approx(LONGEST, rel=0.02)


def test_merging_is_the_same_as_having_seen_both() -> None:
    first, second = filled([0.001, 0.002, 0.5]), filled([0.003, 7.0])
    first.merge(second)
    both = filled([0.001, 0.002, 0.5, 0.003, 7.0])
    assert (first.counts, first.total) == (both.counts, both.total)


def test_the_report_counts_good_failed_and_refused_apart() -> None:
    statistics = ServingStatistics()
    assert not statistics.changed()
    statistics.answered(0.010, failed=False)
    statistics.answered(0.020, failed=True)
    statistics.refused()
    assert statistics.changed()
    report = statistics.report()
    assert (report.requests, report.failures, report.refused) == (2, 1, 1)
    assert report.p99_ms is not None
    assert report.p50_ms == pytest.approx(10, rel=RELATIVE_ERROR * 1.0001)
    assert not statistics.changed()


def test_only_refusals_are_a_change_but_no_latency() -> None:
    statistics = ServingStatistics()
    statistics.refused()
    assert statistics.changed()
    assert statistics.report().p50_ms is None
