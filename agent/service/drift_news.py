"""Which news of drift a window brings: an alarm that was raised or is over, signals that changed abruptly.

The alarm is what is to be believed, so its level makes events and a single window's verdict does not; there is one of each change,
and persistence and hysteresis bound how many there can be. A window that nobody could close takes no step of the alarm, and is no news.

Of abrupt changes there is one event a window at most, and each signal is silent for ``sequential.minimum_windows`` windows after it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from agent.protocol.drift import Alarm, DriftWindow, VerdictLevel
from agent.protocol.telemetry import Event, Severity

MOST_REMEMBERED = 64
"""Slices of a model, of whatever release, whose alarm's level is remembered."""

MOST_NAMED = 8
"""Signals that an event names; more are counted."""

_LAST = 253_402_300_799.0  # the end of the year 9999, which a date can still be

RAISED: frozenset[VerdictLevel] = frozenset({"warning", "drift"})


class DriftNews:
    """Of one model."""

    def __init__(self) -> None:
        self._levels: dict[tuple[int, str | None], VerdictLevel] = {}
        """Of the alarm, by release and slice; the one that was seen last stands last."""

    def remember(self, window: DriftWindow) -> None:
        """The newest window from before the start: what it said is no news."""
        if not window.incomplete:
            self._keep(window)

    def of(self, window: DriftWindow, now: float) -> list[Event]:
        """What is to be told of a window that was closed; ``now``: Unix seconds."""
        if window.incomplete:
            return []
        before = self._levels.get((window.release, window.slice))
        level = self._keep(window)
        news: list[tuple[Severity, str, str]] = []
        if level in RAISED and _is_new(window.alarm, level, before):
            up = before not in RAISED or level == "drift"
            news.append(("warning" if up else "info", "drift", _raised(window, level, before)))
        elif level not in RAISED and before in RAISED:
            news.append(("info", "drift", f"{before} is over{_since(window.alarm)}; {window.verdict.reason}"))
        if window.alarm is not None and window.alarm.changed:
            news.append(("info", "drift-changed", _changed(window.alarm.changed)))
        return [_event(window, now, *each) for each in news]

    def _keep(self, window: DriftWindow) -> VerdictLevel:
        key = (window.release, window.slice)
        level = window.verdict.level if window.alarm is None else window.alarm.level
        self._levels.pop(key, None)
        self._levels = {**dict([*self._levels.items()][-MOST_REMEMBERED:]), key: level}
        return level


def _is_new(alarm: Alarm | None, level: VerdictLevel, before: VerdictLevel | None) -> bool:
    """Whether an alarm came to its level just now; it says so itself where nothing of it is remembered."""
    if before is None:
        return alarm is None or alarm.windows == 1
    return level != before


def _raised(window: DriftWindow, level: VerdictLevel, before: VerdictLevel | None) -> str:
    was = f" (was {before})" if before in RAISED else ""
    return f"{level}{was}{_since(window.alarm)}; {window.verdict.reason}"


def _since(alarm: Alarm | None) -> str:
    if alarm is None:
        return ""
    return f" since {datetime.fromtimestamp(min(alarm.since, _LAST), UTC):%Y-%m-%d %H:%M} UTC"


def _changed(signals: Iterable[str]) -> str:
    names = [*signals]
    more = "" if len(names) <= MOST_NAMED else f" and {len(names) - MOST_NAMED} more"
    return f"changed abruptly: {', '.join(names[:MOST_NAMED])}{more}"


def _event(window: DriftWindow, now: float, severity: Severity, kind: str, text: str) -> Event:
    return Event(
        time=now,
        severity=severity,
        kind=kind,
        text=text if window.slice is None else f"{window.slice}: {text}",
        model=window.model,
        release=window.release,
        deployment=window.deployment,
    )
