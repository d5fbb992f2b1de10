"""The rolling span is exact: what it holds is what was served in it, and its p99 is theirs."""

from hypothesis import given
from hypothesis import strategies as st

from agent.core.service_level import SLICES, RollingServiceLevel
from agent.protocol.latency import LatencySketch
from agent.protocol.manifest import ServiceLevel
from agent.protocol.runner import Served

LEVEL = ServiceLevel(p99_ms=50.0, minimum_requests=1, seconds=120.0)
REPORTS = st.lists(
    st.tuples(
        st.floats(0.0, 30.0),
        st.lists(st.floats(1e-5, 5.0), max_size=5),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=120,
)


@given(REPORTS)
def test_the_span_holds_what_was_served_in_it_and_at_most_two_slices_more(
    reports: list[tuple[float, list[float], int]],
) -> None:
    rolling, now, said = RollingServiceLevel(LEVEL), 0.0, []
    for pause, latencies, turned_away in reports:
        now += pause
        sketch = LatencySketch()
        for seconds in latencies:
            sketch.add(seconds)
        served = Served(latencies=sketch.bins(), turned_away=turned_away)
        rolling.add(served, now)
        said.append((now, served))
        verdict = rolling.verdict(now)
        slack = 2 * LEVEL.seconds / SLICES
        least = [each for when, each in said if now - when <= LEVEL.seconds]
        most = [each for when, each in said if now - when <= LEVEL.seconds + slack]
        assert _count(least) <= verdict.requests <= _count(most)
        if _count(least) == _count(most):
            exact = LatencySketch.of(each.latencies for each in most).quantile(0.99)
            assert verdict.p99_ms == (None if exact is None else exact * 1e3)


def _count(served: list[Served]) -> int:
    return sum(each.turned_away + sum(count for _, count in each.latencies.counts) for each in served)
