import msgspec
import numpy as np
import pytest

from agent.protocol.latency import (
    BINS,
    LONGEST,
    RELATIVE_ERROR,
    SHORTEST,
    LatencyBins,
    LatencySketch,
    slower_than,
)


def filled(values: list[float]) -> LatencySketch:
    sketch = LatencySketch()
    for value in values:
        sketch.add(value)
    return sketch


def test_an_empty_sketch_has_no_quantile() -> None:
    assert LatencySketch().quantile(0.5) is None
    assert LatencySketch().bins() == LatencyBins()


@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_quantiles_are_within_the_stated_relative_error(fraction: float) -> None:
    values = np.random.default_rng(3).lognormal(-7, 1.5, 5_000)
    exact = float(np.quantile(values, fraction, method="lower"))
    found = filled(values.tolist()).quantile(fraction)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.0001)


def test_what_is_out_of_range_counts_at_its_end() -> None:
    sketch = filled([0.0, -1.0, float("nan"), 1e9, float("inf")])
    assert sketch.quantile(0.0) == pytest.approx(SHORTEST, rel=0.02)
    assert sketch.quantile(1.0) == pytest.approx(LONGEST, rel=0.02)
    assert all(0 <= index < BINS for index, _ in sketch.bins().counts)


def test_merging_is_the_same_as_having_seen_both() -> None:
    first, second = filled([0.001, 0.002, 0.5]), filled([0.003, 7.0, 0.5])
    both = filled([0.001, 0.002, 0.5, 0.003, 7.0, 0.5])
    merged = LatencySketch.of([first.bins(), second.bins()])
    assert (merged.bins(), merged.total) == (both.bins(), both.total)


def test_removing_is_the_same_as_never_having_seen_it() -> None:
    sketch, old = filled([0.001, 0.5, 0.5]), filled([0.5, 2.0]).bins()
    before = sketch.bins()
    sketch.merge(old)
    sketch.remove(old)
    assert (sketch.bins(), sketch.total) == (before, 3)


def test_more_than_was_merged_is_not_removed() -> None:
    sketch = filled([0.001, 0.5])
    before = sketch.bins()
    with pytest.raises(ValueError, match="holds 1, 2 can't be removed"):
        sketch.remove(filled([0.001, 0.5, 0.5]).bins())
    assert (sketch.bins(), sketch.total) == (before, 2)


@pytest.mark.parametrize("counts", [((-1, 1),), ((BINS, 1),), ((3, 0),), ((3, -1),)])
def test_a_bin_that_does_not_exist_or_holds_nothing_is_refused(counts: tuple[tuple[int, int], ...]) -> None:
    data = msgspec.msgpack.encode(LatencyBins(counts=counts))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(data, type=LatencyBins)


def test_slower_ones_are_counted_within_the_error_and_never_too_many() -> None:
    values = np.random.default_rng(4).lognormal(-5, 1.0, 5_000).tolist()
    bins = filled(values).bins()
    for limit in (0.001, 0.0067, 0.05, 5.0):
        surely = sum(value > limit * (1 + 2 * RELATIVE_ERROR) for value in values)
        assert surely <= slower_than(bins, limit) <= sum(value > limit for value in values)
    assert slower_than(LatencyBins(), 0.1) == 0
    assert slower_than(filled([0.1, 0.1]).bins(), 0.1) == 0, "the limit itself is kept"
