"""What a study found; written as JSON, drawn, and put into the pages."""

import math

from msgspec import Struct

from agent.drift.estimate import wilson

CONFIDENCE = 0.95


class Rate(Struct, frozen=True, kw_only=True):
    """A share of windows, with its interval at :data:`CONFIDENCE`."""

    rate: float
    low: float
    high: float


class FalseAlarms(Struct, frozen=True, kw_only=True):
    """One subject whose stream never changed."""

    subject: str
    stay: int
    """Rows in a row that show the same; 1: each row stands by itself, which is what the stated levels are of."""
    signals: int
    references: int
    windows: int
    warning: Rate
    """Windows with the verdict warning or drift."""
    drift: Rate
    alarm: Rate
    """Windows in which the alarm was up, after persistence."""
    changed: Rate
    """Windows in which the sequential detector saw a change in any signal."""


class Delay(Struct, frozen=True, kw_only=True):
    """One change at one strength. Delays are rows from the onset to the close of the window that says it; None: never."""

    subject: str
    kind: str
    strength: str
    runs: int
    early: int
    """Runs left out because an alarm was up before the onset."""
    verdict: tuple[int | None, ...]
    """To the first window with warning or drift."""
    alarm: tuple[int | None, ...]
    changed: tuple[int | None, ...]
    drift_windows: float
    """Share of the windows after the onset's own that say warning or drift."""


class Accuracy(Struct, frozen=True, kw_only=True):
    """Estimated against real accuracy under one change, over many windows and many calibrations."""

    subject: str
    kind: str
    strength: str
    windows: int
    """That were estimated."""
    off: float
    """Share of windows without an estimate."""
    reason: str
    """The most frequent reason, "" where there was none."""
    truth: float
    """Mean real accuracy, of all windows."""
    bias: float
    """Mean of estimate minus truth."""
    error: float
    """Mean of its size."""
    reach: float
    """Mean half width of the interval."""
    coverage: Rate
    """Windows whose real accuracy lies in the interval."""


class StudyReport(Struct, frozen=True, kw_only=True):
    """Everything."""

    machine: str
    packages: dict[str, str]
    command: str
    made: str
    seconds: float
    what: dict[str, str]
    """Subject → in words."""
    level: float
    """Stated: the share of windows without drift that may say warning or drift, or an abrupt change."""
    alarm_level: float
    """Stated: the share of windows without drift in which the alarm may be up."""
    window_rows: int
    persistence: int
    false_alarms: tuple[FalseAlarms, ...]
    delays: tuple[Delay, ...]
    accuracy: tuple[Accuracy, ...]


def clustered_rate(groups: list[list[bool]]) -> Rate:
    """The share that is true, where the members of a group (the windows of one reference) have its chance in common.

    Wilson's interval at the effective number of members (Kish 1965): all of them where groups differ no more than by
    chance, and never more; the number of groups where there is nothing to tell that from. 0 within 0-1 where there is no member.
    """
    filled = [group for group in groups if group]
    members, total = sum(map(len, filled)), sum(map(sum, filled))
    if not members:
        return Rate(rate=0.0, low=0.0, high=1.0)
    rate = total / members
    if total in {0, members} or len(filled) < 2:  # noqa: PLR2004 - a spread
        size = float(len(filled))
    else:
        spread = (
            sum((sum(group) - rate * len(group)) ** 2 for group in filled) * len(filled) / (len(filled) - 1)
        )
        size = members / max(1.0, spread / (members * rate * (1 - rate)))
    low, high = wilson(rate, size, CONFIDENCE)
    return Rate(rate=rate, low=low, high=high)


def median(values: tuple[int | None, ...]) -> float:
    """Of delays, where "never" is infinite; infinite where there is none."""
    ordered = sorted(math.inf if value is None else value for value in values)
    return float(ordered[(len(ordered) - 1) // 2]) if ordered else math.inf
