"""How telemetry's monthly budget stands, in words."""

from agent.protocol.ledger import BudgetReport, Thinning
from agent.protocol.progress import size

WORDS: dict[Thinning, str] = {
    "none": "nothing is thinned",
    "quarter-days": "windows are merged to 6 hours and health to one, and sent more rarely",
    "days": "windows are merged to days and health to 6 hours, and sent more rarely",
    "urgent-only": "only warnings, drift and errors are sent; the rest waits, merged to days",
    "nothing": "nothing is sent, as telemetry.over_budget says; everything waits",
}


def budget_line(budget: BudgetReport) -> str:
    """``telemetry's budget for 2026-11: 0.9 of 1.0 MB used, 0.1 MB left; only …``."""
    used, whole, left = size(budget.used_bytes), size(budget.monthly_bytes), size(budget.left_bytes)
    return f"telemetry's budget for {budget.month}: {used} of {whole} used, {left} left; {WORDS[budget.thinning]}"
