"""What telemetry has cost this month, beside what it may cost."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from agent.config import TelemetryConfig
from agent.core.sending import MonthlyBudget, report
from agent.protocol.ledger import BudgetReport, LedgerReport
from agent.protocol.topics import Channel
from agent.store.ledger import Ledger


def monthly_budget(config: TelemetryConfig) -> MonthlyBudget | None:
    """What the device's owner allows."""
    if config.monthly_bytes is None:
        return None
    return MonthlyBudget(monthly_bytes=config.monthly_bytes, over=config.over_budget)


class TelemetryBudget:
    """Reads the ledger; a month begins at midnight UTC.

    Args:
        ledger: where every byte is counted.
        budget: None: there is none.
        clock: Unix seconds.
    """

    def __init__(self, ledger: Ledger, budget: MonthlyBudget | None, *, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._budget = budget
        self._clock = clock

    async def look(self) -> BudgetReport | None:
        """How the month stands; None without a budget.

        Raises:
            StoreError, sqlite3.Error: the ledger can't be read.
        """
        if self._budget is None:
            return None
        now = datetime.fromtimestamp(self._clock(), UTC)
        month = now.strftime("%Y-%m")
        return report(
            self._budget,
            month=month,
            used=await self._ledger.spent(Channel.TELEMETRY.value, month),
            elapsed=elapsed(now),
        )

    async def account(self) -> LedgerReport:
        """The whole ledger, with the budget in it; raises like :meth:`look`."""
        return replace(await self._ledger.report(), budget=await self.look())

    async def settle(self) -> None:
        """Put what was just spent on the disk, where there is a budget: an agent that dies often must not forget it.

        Raises:
            StoreError, sqlite3.Error: it can't be; it is kept in memory.
        """
        if self._budget is not None:
            await self._ledger.flush()


def elapsed(now: datetime) -> float:
    """Share of its month that is over."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (first + timedelta(days=32)).replace(day=1)
    return (now - first) / (following - first)
