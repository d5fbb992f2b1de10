"""How the pages say times, shares, verdicts and statistics; the same words everywhere."""

import datetime as dt

from agent.protocol.drift import VerdictLevel
from agent.protocol.ids import LATEST_TIME

MINUTE, HOUR, DAY = 60, 3600, 86_400

TONES: dict[str, str] = {
    "ok": "good",
    "warning": "warn",
    "drift": "bad",
    "insufficient data": "quiet",
    "": "quiet",
}
SEVERITY: dict[str, int] = {"drift": 0, "warning": 1, "insufficient data": 2, "": 3, "ok": 4}
"""The worst first; a device that has not said anything comes before one that is well."""
SHORT: dict[str, str] = {
    "ok": "as expected",
    "warning": "moves",
    "drift": "drifts",
    "insufficient data": "too few rows",
    "": "no window",
}
KINDS: dict[str, str] = {
    "ok": "ok",
    "warning": "warning",
    "drift": "drift",
    "insufficient data": "insufficient",
    "": "none",
}
"""Names of marks and of colours in ``page.css``."""


def ago(seconds: float) -> str:
    """A span of time as a person says it."""
    if seconds < MINUTE:
        return "just now" if seconds < 10 else f"{seconds:.0f} s ago"  # noqa: PLR2004 - seconds that nobody counts
    return f"{lasting(seconds)} ago"


def lasting(seconds: float) -> str:
    """``40 s``, ``12 min``, ``30 h``, ``9 days``."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    if seconds < 2 * DAY:
        return f"{seconds / HOUR:.0f} h"
    return f"{seconds / DAY:.0f} days"


def day(time: float) -> str:
    return _moment(time).strftime("%Y-%m-%d")


def minute(time: float) -> str:
    return _moment(time).strftime("%Y-%m-%d %H:%M")


def stamp(time: float) -> str:
    return _moment(time).strftime("%Y-%m-%d %H:%M:%S UTC")


def _moment(time: float) -> dt.datetime:
    """A device's clock may say anything: no page fails for it."""
    return dt.datetime.fromtimestamp(min(max(time, 0.0), LATEST_TIME), dt.UTC)


def whole(count: int) -> str:
    return f"{count:,}"


def many(count: int, one: str, more: str | None = None) -> str:
    """``1 device``, ``12 devices``."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def worst_first(level: VerdictLevel | str | None) -> int:
    """To sort by."""
    return SEVERITY[level or ""]
