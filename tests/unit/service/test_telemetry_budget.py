"""What telemetry has cost this month, from the real ledger."""

from datetime import UTC, datetime

import pytest

from agent.config_file import parse_config
from agent.core.sending import MonthlyBudget
from agent.service.telemetry_budget import TelemetryBudget, elapsed, monthly_budget
from agent.store.database import Database
from agent.store.ledger import Ledger

NOVEMBER = datetime(2026, 11, 16, tzinfo=UTC)
DEVICE = '[device]\nid = "camera-1"\nhardware_class = "cpu"\n'


class Clock:
    def __init__(self) -> None:
        self.now = NOVEMBER

    def __call__(self) -> float:
        return self.now.timestamp()


async def test_the_month_counts_both_ways_what_is_stored_and_what_is_not_yet(database: Database) -> None:
    clock = Clock()
    ledger = Ledger(database, clock=clock)
    budget = TelemetryBudget(ledger, MonthlyBudget(monthly_bytes=1_000), clock=clock)
    ledger.add("telemetry", bytes_in=20, bytes_out=300)
    ledger.add("artifacts", bytes_in=1_000_000)
    await ledger.flush()
    ledger.add("telemetry", bytes_out=30)
    found = await budget.look()
    assert found is not None
    assert (found.month, found.monthly_bytes, found.used_bytes, found.left_bytes) == (
        "2026-11",
        1_000,
        350,
        650,
    )
    assert found.thinning == "quarter-days"
    account = await budget.account()
    assert account.budget == found
    assert {each.purpose: each.bytes_out for each in account.traffic} == {"telemetry": 330, "artifacts": 0}
    clock.now = datetime(2026, 12, 1, tzinfo=UTC)
    december = await budget.look()
    assert december is not None
    assert (december.month, december.used_bytes, december.thinning) == ("2026-12", 0, "none")


async def test_with_a_budget_what_was_spent_is_on_the_disk_after_each_round(database: Database) -> None:
    clock = Clock()
    ledger = Ledger(database, clock=clock)
    ledger.add("telemetry", bytes_out=300)
    await TelemetryBudget(ledger, MonthlyBudget(monthly_bytes=1_000), clock=clock).settle()
    assert await Ledger(database, clock=clock).spent("telemetry", "2026-11") == 300


async def test_without_a_budget_nothing_is_told_and_nothing_is_written_for_it(database: Database) -> None:
    clock = Clock()
    ledger = Ledger(database, clock=clock)
    ledger.add("telemetry", bytes_out=300)
    budget = TelemetryBudget(ledger, None, clock=clock)
    assert await budget.look() is None
    await budget.settle()
    rows = await database.read(lambda connection: connection.execute("SELECT * FROM traffic").fetchall())
    assert rows == []
    assert (await budget.account()).budget is None


@pytest.mark.parametrize(
    ("now", "share"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), 0.0),
        (NOVEMBER, 0.5),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), 1.0),
        (datetime(2028, 2, 15, 12, tzinfo=UTC), 0.5),
    ],
)
def test_the_share_of_a_month_that_is_over(now: datetime, share: float) -> None:
    assert elapsed(now) == pytest.approx(share, abs=1e-6)


def test_the_owner_s_words_make_the_budget() -> None:
    config = parse_config(
        DEVICE + '[telemetry]\nmonthly_bytes = 5\nover_budget = "nothing"\n', source="agent.toml"
    )
    assert monthly_budget(config.telemetry) == MonthlyBudget(monthly_bytes=5, over="nothing")
    assert monthly_budget(parse_config(DEVICE, source="agent.toml").telemetry) is None
