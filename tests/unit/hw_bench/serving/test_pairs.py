import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw_bench.serving.pairs import paired, sample, spread

POSITIVE = st.floats(min_value=0.1, max_value=1e6)


@given(st.lists(POSITIVE, min_size=1, max_size=300))
def test_percentiles_are_measured_latencies_by_nearest_rank(latencies: list[float]) -> None:
    found = sample(latencies, 0.5)
    expected = np.percentile(latencies, (50, 95, 99), method="inverted_cdf")
    assert [found.p50_us, found.p95_us, found.p99_us] == expected.tolist()
    assert found.requests == len(latencies)
    assert found.requests_per_second == len(latencies) / 0.5


@given(st.lists(POSITIVE, min_size=1, max_size=40))
def test_the_spread_is_median_and_quartiles(values: list[float]) -> None:
    found = spread(values)
    assert [found.low, found.median, found.high] == pytest.approx(np.percentile(values, (25, 50, 75)))
    assert found.rounds == len(values)


def test_ratios_are_taken_within_a_round() -> None:
    # The machine is ten times slower in the second round: the ratio of the medians would be another one.
    found = paired([10.0, 300.0, 12.0], [20.0, 300.0, 24.0])
    assert found.median == 0.5
    assert (found.low, found.high, found.rounds) == (0.5, 0.75, 3)


def test_nothing_measured_is_no_number() -> None:
    with pytest.raises(ValueError, match="without a request"):
        sample([], 1.0)
    with pytest.raises(ValueError, match="no rounds"):
        spread([])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        paired([1.0, 2.0], [1.0])
