import pytest

from agent.core.service_level import SLICES, RollingServiceLevel, judge_service
from agent.protocol.latency import RELATIVE_ERROR, LatencySketch
from agent.protocol.manifest import ServiceLevel
from agent.protocol.runner import Served

LEVEL = ServiceLevel(p99_ms=100.0, maximum_failure_rate=0.1, minimum_requests=10, seconds=60.0)


def served(*seconds: float, failures: int = 0, turned_away: int = 0) -> Served:
    sketch = LatencySketch()
    for each in seconds:
        sketch.add(each)
    return Served(latencies=sketch.bins(), failures=failures, turned_away=turned_away)


@pytest.mark.parametrize(
    ("requests", "missed", "p99", "level", "said"),
    [
        (9, 9, 900.0, "insufficient data", "9 requests in 60 s, 10 are needed"),
        (0, 0, None, "insufficient data", "0 requests"),
        (10, 0, 100.0, "ok", "p99 is 100 of 100 ms"),
        (10, 0, 100.1, "broken", "p99 is 100 ms, 100 ms are allowed"),
        (10, 1, 1.0, "ok", "10.00% of 10.00%"),
        (10, 2, 1.0, "broken", "20.00% failed or were turned away, 10.00% are allowed"),
        (10, 10, None, "broken", "100.00% failed"),
        (10, 2, float("nan"), "broken", "p99 is nan ms, 100 ms are allowed and 20.00% failed"),
    ],
)
def test_the_verdict_carries_its_figures(
    requests: int, missed: int, p99: float | None, level: str, said: str
) -> None:
    verdict = judge_service(LEVEL, requests=requests, missed=missed, p99_ms=p99)
    assert verdict.level == level
    assert said in verdict.text
    assert verdict.requests == requests


def test_failures_and_requests_turned_away_count_alike() -> None:
    rolling = RollingServiceLevel(LEVEL)
    rolling.add(served(*[0.01] * 18, failures=1, turned_away=2), 0.0)
    verdict = rolling.verdict(1.0)
    assert (verdict.requests, verdict.failure_rate, verdict.level) == (20, 3 / 20, "broken")


def test_only_turned_away_requests_are_broken_without_a_latency() -> None:
    rolling = RollingServiceLevel(LEVEL)
    rolling.add(served(turned_away=10), 0.0)
    verdict = rolling.verdict(1.0)
    assert (verdict.level, verdict.p99_ms, verdict.failure_rate) == ("broken", None, 1.0)


def test_what_is_older_than_the_span_is_forgotten_and_nothing_newer() -> None:
    rolling = RollingServiceLevel(LEVEL)
    rolling.add(served(*[0.5] * 20, failures=20, turned_away=3), 0.0)
    rolling.add(served(*[0.01] * 20), 30.0)
    assert rolling.verdict(60.0).level == "broken"
    slice_seconds = LEVEL.seconds / SLICES
    after = rolling.verdict(60.0 + slice_seconds + 0.01)
    assert (after.level, after.requests, after.failure_rate) == ("ok", 20, 0.0)
    assert after.p99_ms == pytest.approx(10, rel=RELATIVE_ERROR * 1.01)
    assert rolling.verdict(200.0).requests == 0


def test_a_report_a_second_for_a_day_takes_no_more_room_than_its_slices() -> None:
    rolling = RollingServiceLevel(ServiceLevel(p99_ms=100.0, seconds=600.0))
    for second in range(5_000):
        rolling.add(served(0.01), float(second))
    assert len(rolling._slices) <= SLICES + 2
    assert 600 <= rolling.verdict(4_999.0).requests <= 600 + 600 / SLICES + 1
