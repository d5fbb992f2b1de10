"""How the pages say times, shares, verdicts and statistics; the same words everywhere."""

import datetime as dt

from agent.protocol.drift import SignalCounts, SignalReference, SignalVerdict, VerdictLevel

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
MILLION = 1_000_000
NO_DIFFERENCE = 0.02
"""Shift of the middle, in ranges of the reference, that nobody calls lower or higher."""


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
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d")


def minute(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M")


def stamp(time: float) -> str:
    return dt.datetime.fromtimestamp(time, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def percent(share: float) -> str:
    """A share that is not nothing is never shown as nothing, and one that is not everything never as everything."""
    if 0 < share < 0.001:  # noqa: PLR2004 - what one decimal place can't show
        return "under 0.1 %"
    if 0.999 < share < 1:  # noqa: PLR2004 - as above
        return "over 99.9 %"
    return f"{share * 100:.1f} %".replace(".0 %", " %")


def whole(count: int) -> str:
    return f"{count:,}"


def many(count: int, one: str, more: str | None = None) -> str:
    """``1 device``, ``12 devices``."""
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def chance(p_value: float) -> str:
    """A p-value for somebody who never heard of one."""
    if p_value >= 0.5:  # noqa: PLR2004 - as likely as not
        return "no farther than chance takes them"
    times = 1 / p_value if p_value > 0 else float("inf")
    if times >= MILLION:
        return "chance does this less than once in a million windows"
    if times < 20:  # noqa: PLR2004 - "once in 3 windows" is not a rarity
        return f"chance alone does this once in {times:.0f} windows"
    digits = len(str(int(times))) - 2
    return f"chance does this once in {round(times, -max(0, digits)):,.0f} windows"


def moved(reference: SignalReference, counts: SignalCounts) -> str:
    """Where the rows went, by the middle of their bins: ``lower``, ``higher``, ``wider apart``, ..."""
    if reference.summary in ("argmax", "category"):
        return _category_most(reference, counts)
    then, now = _middle(reference.counts), _middle(counts.counts)
    if then is None or now is None:
        return "no row has a value"
    shift = (now - then) / max(1, len(reference.counts) - 2)
    if abs(shift) < NO_DIFFERENCE:
        return "about where they lay"
    return "lower than then" if shift < 0 else "higher than then"


def _middle(counts: tuple[int, ...]) -> float | None:
    rows = sum(counts)
    return sum(place * count for place, count in enumerate(counts)) / rows if rows else None


def _category_most(reference: SignalReference, counts: SignalCounts) -> str:
    rows_then, rows_now = sum(reference.counts), sum(counts.counts)
    if not rows_then or not rows_now:
        return "no row has a value"
    names: list[object] = ["under", *(reference.categories or range(len(reference.counts) - 2)), "other"]
    growth = [
        now / rows_now - then / rows_then for now, then in zip(counts.counts, reference.counts, strict=True)
    ]
    place = max(range(len(growth)), key=lambda each: abs(growth[each]))
    if abs(growth[place]) < NO_DIFFERENCE:
        return "in about the shares they had"
    then = percent(reference.counts[place] / rows_then)
    now = percent(counts.counts[place] / rows_now)
    return f"{names[place]} most changed, {then} then, {now} now"


def judged(verdict: SignalVerdict) -> str:
    """What is behind one signal's verdict, in plain words."""
    if verdict.level == "insufficient data":
        return f"{whole(verdict.rows)} rows are too few to say"
    return f"{chance(verdict.p_value)} ({whole(verdict.rows)} rows)"


def worst_first(level: VerdictLevel | str | None) -> int:
    """To sort by."""
    return SEVERITY[level or ""]
