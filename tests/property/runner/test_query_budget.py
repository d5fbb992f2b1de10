"""The query budget against a plain model of itself: buckets kept as fractions."""

import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.access import QueryBudget
from agent.runner.errors import OverBudgetError, RequestError
from agent.runner.query_budget import QueryLedger

SLOT = 16
asks = st.lists(
    st.tuples(st.integers(0, 4), st.integers(1, 60), st.integers(0, 500)), min_size=1, max_size=60
).map(lambda steps: [(uid, rows, gap) for uid, rows, gap in steps])
budgets = st.builds(QueryBudget, rows_per_hour=st.integers(1, 7200), burst=st.integers(1, 50))


class PlainBuckets:
    def __init__(self, budget: QueryBudget) -> None:
        self.rate = Fraction(budget.rows_per_hour, 3600)
        self.burst = Fraction(budget.burst)
        self.buckets: dict[int, tuple[Fraction, Fraction]] = {}

    def charge(self, uid: int, rows: int, now: int) -> Fraction:
        """Rows that were missing; 0: charged."""
        level, then = self.buckets.get(uid, (self.burst, Fraction(0)))
        level = min(self.burst, level + (now - then) * self.rate)
        missing = max(Fraction(0), rows - level)
        self.buckets[uid] = (level - (0 if missing else rows), Fraction(now))
        return missing


@given(budgets, asks, st.sampled_from([1, 3]))
def test_it_is_a_token_bucket_a_user_and_a_refusal_says_how_long_to_wait(
    budget: QueryBudget, steps: list[tuple[int, int, int]], restart_every: int
) -> None:
    memory = bytearray(8 * SLOT)
    plain = PlainBuckets(budget)
    now = 1_000
    for step, (uid, rows, gap) in enumerate(steps):
        now += gap
        if step % restart_every == 0:
            ledger = QueryLedger(budget, memory)  # another runner: the debts are in the memory
        if rows > budget.burst:
            with pytest.raises(RequestError, match=f"at most {budget.burst} at once") as refusal:
                ledger.charge(uid, rows, now)
            assert refusal.value.status == 413
            continue
        missing = plain.charge(uid, rows, now)
        if not missing:
            ledger.charge(uid, rows, now)
            continue
        with pytest.raises(OverBudgetError) as over:
            ledger.charge(uid, rows, now)
        wait = missing / plain.rate
        assert over.value.retry_after - 1 <= wait <= over.value.retry_after or wait < 1
        assert float(over.value.retry_after) >= float(wait) - 1e-3


@given(
    budgets, st.lists(st.tuples(st.integers(0, 300), st.integers(1, 50), st.integers(0, 60)), max_size=150)
)
def test_any_number_of_users_gets_no_more_than_the_slots_give(
    budget: QueryBudget, steps: list[tuple[int, int, int]]
) -> None:
    slots = 4
    ledger = QueryLedger(budget, bytearray(slots * SLOT))
    now, given_rows = 0, 0
    for uid, rows, gap in steps:
        now += gap
        try:
            ledger.charge(uid, rows, now)
        except RequestError:
            continue
        given_rows += rows
    most = slots * (budget.burst + Fraction(budget.rows_per_hour * now, 3600))
    assert given_rows <= most + Fraction(1, 1000)


@given(budgets, st.binary(min_size=4 * SLOT, max_size=4 * SLOT), st.integers(0, 2**32 - 1))
def test_whatever_stands_in_the_memory_a_user_waits_no_longer_than_for_a_bucket(
    budget: QueryBudget, garbage: bytes, uid: int
) -> None:
    ledger = QueryLedger(budget, bytearray(garbage))
    now = 5_000.0
    try:
        ledger.charge(uid, 1, now)
    except OverBudgetError:
        ledger.charge(uid, 1, now + budget.burst * 3600 / budget.rows_per_hour + 1)


def test_those_who_come_over_tcp_share_a_bucket_that_is_nobody_elses() -> None:
    ledger = QueryLedger(QueryBudget(rows_per_hour=60, burst=10, tcp="shared"), bytearray(4 * SLOT))
    ledger.charge(None, 10, 100)
    for uid in (0, 2**32 - 1):
        ledger.charge(uid, 10, 100)
    with pytest.raises(OverBudgetError, match="60 rows an hour, at most 10 at once; too few are left for 1"):
        ledger.charge(None, 1, 100)


def test_a_user_whose_slot_another_process_gave_away_is_looked_for_again() -> None:
    memory = bytearray(2 * SLOT)
    budget = QueryBudget(rows_per_hour=3600, burst=10)
    old, new = QueryLedger(budget, memory), QueryLedger(budget, memory)
    old.charge(1, 2, 100)
    new.charge(2, 8, 100)
    new.charge(3, 7, 100)  # takes the slot of 1, the least indebted, and its debt of 2
    old.charge(1, 1, 100)  # not its old slot: now 2 is the least indebted, so 8 + 1
    entries = sorted(struct.iter_unpack("=Qd", bytes(memory)))
    assert entries == [(2, 109.0), (4, 109.0)]


@pytest.mark.parametrize("written", [1e300, float("inf"), float("nan"), 5_000.0 + 1e6])
def test_a_debt_that_nobody_can_have_is_a_whole_buckets(written: float) -> None:
    ledger = QueryLedger(QueryBudget(rows_per_hour=3600, burst=10), bytearray(struct.pack("=Qd", 8, written)))
    with pytest.raises(OverBudgetError) as over:
        ledger.charge(7, 4, 5_000)
    assert over.value.retry_after == 4


def test_over_tcp_nobody_may_ask_unless_that_is_allowed() -> None:
    ledger = QueryLedger(QueryBudget(rows_per_hour=60, burst=10), bytearray(4 * SLOT))
    with pytest.raises(RequestError, match="not served over TCP") as refusal:
        ledger.charge(None, 1, 100)
    assert refusal.value.status == 403
