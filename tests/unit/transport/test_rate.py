"""Rates of bytes, with time as an argument."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.transport.rate import MinimumRate, RateMeter, TokenBucket


@given(
    st.lists(st.tuples(st.integers(1, 65_536), st.floats(0, 5)), min_size=1, max_size=40), st.floats(100, 1e6)
)
def test_over_any_span_no_more_passes_than_the_limit_allows(
    pieces: list[tuple[int, float]], rate: float
) -> None:
    now, passed = 0.0, []
    bucket = TokenBucket(rate, now)
    for count, pause in pieces:
        now += pause
        passed.append((now, count))
        now += bucket.take(count, now)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            span = passed[last][0] - passed[first][0]
            between = sum(count for _, count in passed[first:last])
            assert between <= rate * (span + 1) + max(count for count, _ in pieces) + 1e-3


def test_a_bucket_is_shared_and_pays_its_debt() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    assert bucket.take(1000, 0.0) == 0.0
    assert bucket.take(500, 0.0) == 0.5
    assert bucket.take(500, 0.0) == 1.0
    assert bucket.take(1, 100.0) == 0.0, "an hour of rest is worth one second, no more"
    assert bucket.take(1000, 100.0) == pytest.approx(0.001)


def test_a_window_is_judged_when_it_is_over_and_by_itself() -> None:
    minimum = MinimumRate(100.0, 10.0, 0.0)
    minimum.arrived(900)
    assert minimum.judge(9.9) is None
    assert minimum.judge(10.0) == 900
    minimum.arrived(1001)
    assert minimum.judge(20.0) is None, "1,001 bytes in 10 s are enough"
    assert minimum.judge(30.0) == 0


def test_no_minimum_is_never_stuck() -> None:
    assert MinimumRate(0.0, 1.0, 0.0).judge(100.0) is None


def test_a_meter_is_smooth_and_falls_when_nothing_comes() -> None:
    meter = RateMeter(span=10.0)
    meter.sample(0, 0.0)
    assert meter.rate() is None
    for second in range(1, 21):
        meter.sample(second * 500 + (300 if second % 2 else 0), float(second))
    assert meter.rate() == pytest.approx(500, rel=0.1)
    meter.sample(20 * 500, 25.0)
    assert meter.rate() == pytest.approx(250, rel=0.3)
    meter.sample(20 * 500, 60.0)
    assert meter.rate() == pytest.approx(0.0, abs=1)


def test_a_meter_that_is_asked_seldom_tells_from_what_it_has() -> None:
    meter = RateMeter(span=10.0)
    meter.sample(0, 0.0)
    meter.sample(6000, 60.0)
    assert meter.rate() == 100.0


def test_what_began_anew_is_measured_anew() -> None:
    meter = RateMeter()
    meter.sample(9000, 0.0)
    meter.sample(10, 5.0)
    assert meter.rate() is None
