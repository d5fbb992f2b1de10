"""When telemetry is sent, and what of it when its bytes are short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.sending import DAY, HOUR, LADDER, SPANS, MonthlyBudget, Pace, report, settled_before

BUDGET = MonthlyBudget(monthly_bytes=1_000_000)


def thinning(used: int, elapsed: float, budget: MonthlyBudget = BUDGET) -> str:
    return report(budget, month="2026-11", used=used, elapsed=elapsed).thinning


@pytest.mark.parametrize(
    ("used", "elapsed", "words"),
    [
        (0, 0.0, "none"),
        (20_000, 0.0, "none"),
        (21_001, 0.0, "quarter-days"),
        (30_000, 0.0, "days"),
        (330_000, 0.5, "none"),
        (340_000, 0.5, "quarter-days"),
        (479_999, 0.5, "quarter-days"),
        (480_001, 0.5, "days"),
        (899_999, 0.5, "days"),
        (900_000, 0.99, "urgent-only"),
        (999_999, 0.99, "urgent-only"),
        (5_000_000, 0.99, "urgent-only"),
        (899_999, 1.0, "quarter-days"),
    ],
)
def test_what_is_done_follows_from_what_is_used_and_what_is_over(
    used: int, elapsed: float, words: str
) -> None:
    assert thinning(used, elapsed) == words


def test_the_owner_may_have_nothing_sent_when_all_is_spent() -> None:
    strict = MonthlyBudget(monthly_bytes=1_000_000, over="nothing")
    assert thinning(999_999, 0.9, strict) == "urgent-only"
    assert thinning(1_000_000, 0.9, strict) == "nothing"


@given(st.integers(1, 10**9), st.integers(0, 2 * 10**9), st.floats(0, 1), st.floats(0, 1))
def test_more_used_never_thins_less_and_more_time_never_thins_more(
    monthly: int, used: int, elapsed: float, later: float
) -> None:
    order, budget = list(SPANS), MonthlyBudget(monthly_bytes=monthly)
    now = report(budget, month="2026-11", used=used, elapsed=min(elapsed, later))
    assert now.used_bytes == used
    assert now.left_bytes == max(0, monthly - used)
    after = report(budget, month="2026-11", used=used, elapsed=max(elapsed, later))
    more = report(budget, month="2026-11", used=used + 1_000, elapsed=min(elapsed, later))
    assert order.index(after.thinning) <= order.index(now.thinning) <= order.index(more.thinning)


def test_a_span_is_over_at_its_end_by_utc() -> None:
    assert settled_before(None, 1.0) is None
    noon = 20_000 * DAY + 13 * HOUR + 59.0
    quarters, days = (settled_before(spans, noon) for spans in LADDER)
    assert quarters is not None
    assert days is not None
    assert (quarters.windows, quarters.health) == (20_000 * DAY + 12 * HOUR, 20_000 * DAY + 13 * HOUR)
    assert (days.windows, days.health) == (20_000 * DAY, 20_000 * DAY + 12 * HOUR)


def test_what_is_urgent_never_waits_longer_and_nothing_else_waits_less() -> None:
    pace = Pace(urgent=5.0, others=60.0)
    assert pace.wait(urgent=True, costs=True) == pace.wait(urgent=True, costs=False) == 5.0
    assert (pace.wait(urgent=False, costs=False), pace.wait(urgent=False, costs=True)) == (60.0, 600.0)
    assert Pace(urgent=90.0, others=60.0).wait(urgent=False, costs=False) == 90.0
