"""When telemetry is sent, and what of it when its bytes are short. Pure: time and randomness are arguments.

A month has a budget. A tenth of it is kept for what is urgent; the rest may be spent evenly over the month, a day's worth ahead.
Who is ahead of that sends more slowly and thins: waiting windows are merged (to quarters of a day, then to days) and health
records even more, and they wait until their span is over, so that there is something to merge. Nothing is dropped for the
budget.
"""

import math
from typing import Literal

from msgspec import Struct

from agent.protocol.ledger import BudgetReport, Thinning

Seconds = float
HOUR = 3_600.0
DAY = 24 * HOUR

RESERVE = 0.1
"""Share of the budget that only urgent records may use."""
AHEAD = 1 / 30
"""Share of the month that may be spent in advance."""
EARLY = 0.7
"""Share of what may be spent by now from which thinning begins."""
SLOWER = 10.0
"""How much longer records wait on a line that costs, or while bytes are short."""


class Spans(Struct, frozen=True, kw_only=True):
    """What is merged into one record, seconds of UTC."""

    windows: Seconds
    health: Seconds


SPANS: dict[Thinning, Spans | None] = {
    "none": None,
    "quarter-days": Spans(windows=6 * HOUR, health=HOUR),
    "days": Spans(windows=DAY, health=6 * HOUR),
    "urgent-only": Spans(windows=DAY, health=DAY),
    "nothing": Spans(windows=DAY, health=DAY),
}
LADDER = tuple(spans for spans in (SPANS["quarter-days"], SPANS["days"]) if spans is not None)
"""For an outbox that has no room: finer first."""


class MonthlyBudget(Struct, frozen=True, kw_only=True):
    """Bytes that telemetry may cost in one calendar month (UTC)."""

    monthly_bytes: int
    over: Literal["urgent", "nothing"] = "urgent"
    """What is sent when nothing is left."""


def report(budget: MonthlyBudget, *, month: str, used: int, elapsed: float) -> BudgetReport:
    """How the month stands.

    Args:
        budget: what the device's owner allows.
        month: for instance ``2026-11``.
        used: bytes so far.
        elapsed: share of the month that is over, 0 to 1.
    """
    left = max(0, budget.monthly_bytes - used)
    return BudgetReport(
        month=month,
        monthly_bytes=budget.monthly_bytes,
        used_bytes=used,
        left_bytes=left,
        thinning=_thinning(budget, used, elapsed),
    )


def _thinning(budget: MonthlyBudget, used: int, elapsed: float) -> Thinning:
    if used >= budget.monthly_bytes:
        return "urgent-only" if budget.over == "urgent" else "nothing"
    ordinary = budget.monthly_bytes * (1 - RESERVE)
    if used >= ordinary:
        return "urgent-only"
    by_now = ordinary * min(1.0, elapsed + AHEAD)
    if used >= by_now:
        return "days"
    return "quarter-days" if used >= EARLY * by_now else "none"


def settled_before(spans: Spans | None, now: float) -> Spans | None:
    """Records of each kind from before this moment (Unix seconds) may be sent: their span is over. None: all may."""
    if spans is None:
        return None
    return Spans(
        windows=math.floor(now / spans.windows) * spans.windows,
        health=math.floor(now / spans.health) * spans.health,
    )


class Pace(Struct, frozen=True, kw_only=True):
    """How long records wait, in seconds."""

    urgent: Seconds
    others: Seconds

    def wait(self, *, urgent: bool, costs: bool) -> Seconds:
        """For how long at most, while the hub is there. ``costs``: the line is metered, or bytes are short."""
        if urgent:
            return self.urgent
        calm = max(self.others, self.urgent)
        return calm * SLOWER if costs else calm
