"""Add windows to a day. Pure: a day and a window in, a day out; exact, so the order of windows does not matter."""

import msgspec
from msgspec import Struct

from agent.drift.merge import merge_counts
from agent.protocol.drift import AccuracyEstimate, DriftReference, DriftWindow, SignalCounts
from agent.protocol.words import one_line
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, layout_problem
from cloud_hub.telemetry.withheld import filled

DAY = 86_400
AHEAD_SECONDS = 3_600.0
"""A device's clock may be so far ahead of the hub's and is still believed."""
LATE_DAYS = 400
"""… and a window may come so late."""
MOST_ROWS = 2**40
"""In one window, or in one day of a device; one that claims more is not believed at all."""
MOST_WINDOWS = 10_000
"""That a device may have merged into one."""


class Day(Struct, frozen=True, kw_only=True):
    """One device, model, release and slice on one day. The fields are those of :class:`~cloud_hub.telemetry.rollup_models.DeviceDay`."""

    windows: int = 0
    rows: int = 0
    incomplete_windows: int = 0
    incomplete_rows: int = 0
    unusable: int = 0
    ok: int = 0
    warning: int = 0
    drift: int = 0
    insufficient: int = 0
    alarms: int = 0
    late: int = 0
    opened: float = 0.0
    closed: float = 0.0
    estimate_rows: int = 0
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    problem: str | None = None
    signals: dict[str, SignalCounts] = {}


COUNTED = {"ok": "ok", "warning": "warning", "drift": "drift", "insufficient data": "insufficient"}


def believed(closed: float, received: float) -> bool:
    """Whether a device's clock can be right, by the hub's."""
    return received - LATE_DAYS * DAY <= closed <= received + AHEAD_SECONDS


def when(closed: float, received: float) -> float:
    """When a window was closed: by the device's clock, or where that can't be right, when it came."""
    return closed if believed(closed, received) else received


def day_of(closed: float, received: float) -> int:
    """The day (UTC, since 1970-01-01) that a window belongs to: the one in which it was closed, however late it comes."""
    return int(when(closed, received) // DAY)


def add(day: Day, window: DriftWindow, received: float, reference: DriftReference | None) -> Day:
    """``day`` with one more window.

    A window that is incomplete counts as such; its counts, if it has any, are rows that were answered, and are added like
    all others. Counts that have not the reference's layout (or, without a reference, the day's) are not added; that is counted.
    """
    merged = min(max(window.merged, 1), MOST_WINDOWS)
    problem = _problem(day, window, reference)
    usable = bool(window.signals) and problem is None
    estimate_rows, accuracy, low, high = _estimate(day, window, usable=usable)
    counted = COUNTED[window.verdict.level]
    late = when(window.closed, received) < received - DAY
    rows = min(window.rows, MOST_ROWS)
    # Every number is bounded: what is stored must be readable again, or one device would stop the roll-ups of all.
    return msgspec.structs.replace(
        day,
        windows=day.windows + (merged if usable else 0),
        rows=day.rows + (rows if usable else 0),
        incomplete_windows=day.incomplete_windows + window.incomplete,
        incomplete_rows=min(day.incomplete_rows + (rows if window.incomplete else 0), MOST_ROWS),
        unusable=day.unusable + (problem is not None),
        alarms=day.alarms + (window.alarm is not None and window.alarm.level == "drift"),
        late=day.late + late,
        opened=window.opened if not day.closed else min(day.opened, window.opened),
        closed=max(day.closed, window.closed),
        estimate_rows=estimate_rows,
        accuracy=accuracy,
        low=low,
        high=high,
        problem=problem or day.problem,
        signals=_added(day.signals, _told(window, reference)) if usable else day.signals,
        **{counted: getattr(day, counted) + 1},
    )


def _problem(day: Day, window: DriftWindow, reference: DriftReference | None) -> str | None:
    if not window.signals and window.incomplete:
        return None
    problem = counts_problem(window, reference)
    if problem is not None:
        return problem
    if day.rows + window.rows > MOST_ROWS:
        return f"its windows of the day claim over {MOST_ROWS} rows, more are not believed"
    if not window.signals or (day.signals and _layout(day.signals) != _layout(window.signals)):
        return "its windows of the day differ in signals or bins"
    return None


def counts_problem(window: DriftWindow, reference: DriftReference | None) -> str | None:
    """Why a window's counts can't be used, fit to be stored and shown, whatever names the device gave its signals."""
    if window.rows > MOST_ROWS:
        return f"a window claims {window.rows} rows, at most {MOST_ROWS} are believed"
    if reference is not None:
        problem = layout_problem(reference, DeviceCounts(device="", rows=window.rows, signals=window.signals))
        return None if problem is None else one_line(problem)
    if any(_total(counts) != window.rows for counts in window.signals.values()):
        return f"a window's counts do not add up to its {window.rows} rows"
    if any(counts.repeated > window.rows for counts in window.signals.values()):
        return f"more rows of a window repeat the one before than its {window.rows}"
    return None


def sound_estimate(window: DriftWindow) -> AccuracyEstimate | None:
    """A window's estimate, made from no more rows than it has; None where it is no share."""
    found = window.estimate
    if found is None or not all(0.0 <= each <= 1.0 for each in (found.accuracy, found.low, found.high)):
        return None
    return msgspec.structs.replace(found, rows=min(found.rows, window.rows))


def _told(window: DriftWindow, reference: DriftReference | None) -> dict[str, SignalCounts]:
    """Each window by itself: in the sum nobody can say any more which cells were hidden."""
    return window.signals if reference is None else filled(reference, window.signals)


def _total(counts: SignalCounts) -> int:
    return sum(counts.counts) + counts.missing + counts.not_finite + counts.withheld


def _layout(signals: dict[str, SignalCounts]) -> dict[str, int]:
    return {name: len(counts.counts) for name, counts in signals.items()}


def _added(old: dict[str, SignalCounts], new: dict[str, SignalCounts]) -> dict[str, SignalCounts]:
    return {name: merge_counts((old[name], found)) for name, found in new.items()} if old else new


def _estimate(
    day: Day, window: DriftWindow, *, usable: bool
) -> tuple[int, float | None, float | None, float | None]:
    """Means weighted by rows; the interval's ends too, which is wider than what the sum could claim, and so honest."""
    new = sound_estimate(window)
    if new is None or not usable or new.rows < 1:
        return day.estimate_rows, day.accuracy, day.low, day.high
    rows = day.estimate_rows + new.rows
    if day.accuracy is None or day.low is None or day.high is None:
        return rows, new.accuracy, new.low, new.high
    share = new.rows / rows
    return (
        rows,
        day.accuracy + share * (new.accuracy - day.accuracy),
        day.low + share * (new.low - day.low),
        day.high + share * (new.high - day.high),
    )
