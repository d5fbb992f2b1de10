"""Maintenance windows: when a device may be changed, by its own wall clock. Pure: the time and the zone are arguments.

A window is open whenever the wall clock of its zone shows a time in it, and that says everything about days on which the
clock is changed: a time that is skipped opens nothing, a time that comes twice opens twice, and a window that the clock
jumps into the middle of opens at the jump.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from msgspec import Struct

from agent.protocol.ids import UnixTime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
_DAY = r"(?:[Mm]on|[Tt]ue|[Ww]ed|[Tt]hu|[Ff]ri|[Ss]at|[Ss]un)"
_TIME = r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)"
WINDOW_PATTERN = (
    rf"^(?P<days>daily|{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) (?P<begin>{_TIME})-(?P<end>{_TIME})$(?!\n)"
)
WINDOW_FORM = (
    'days and a span of the day: "Sat,Sun 22:00-04:00", "Mon-Fri 02:00-04:00" or "daily 02:00-04:00"'
)
HORIZON_DAYS = 15
"""A weekly window is skipped once at most, by a clock that is set forward over it: the one after is within this."""
_SCAN_SECONDS = 3 * 3600.0
"""No zone changes its offset twice in such a time."""


class MaintenanceWindow(Struct, frozen=True, kw_only=True):
    """A span of the day, on some days of the week."""

    days: tuple[int, ...]
    """On which it begins; 0 is Monday."""
    begin: int
    """Minutes after midnight by the wall clock."""
    end: int
    """As ``begin``, up to 1,440; not after ``begin``: on the day after."""

    def holds(self, local: datetime) -> bool:
        """Whether the wall clock ``local`` shows a time in it."""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        if minute >= self.begin:
            return day in self.days
        return minute < self.end and (day - 1) % 7 in self.days

    @classmethod
    def parse(cls, text: str) -> "MaintenanceWindow":
        """Read ``Sat,Sun 22:00-04:00``, ``Mon-Fri 02:00-04:00`` or ``daily 02:00-24:00`` (:data:`WINDOW_PATTERN`).

        Raises:
            ValueError: it is not of that form, or has no length; the text says which.
        """
        match = re.match(WINDOW_PATTERN, text)
        if match is None:
            raise ValueError(f"expected {WINDOW_FORM}")
        days, begin, end = _days(match["days"].lower()), _minutes(match["begin"]), _minutes(match["end"])
        if begin == end:
            raise ValueError("it begins when it ends; for whole days write 00:00-24:00")
        if begin == MINUTES_A_DAY:
            raise ValueError("a day begins at 00:00; 24:00 is only where one ends")
        return cls(days=days, begin=begin, end=end)

    def words(self) -> str:
        """``Sat, Sun 22:00-04:00``; ``daily 02:00-04:00``."""
        named = ", ".join(DAYS[day].capitalize() for day in self.days)
        days = "daily" if len(self.days) == len(DAYS) else named
        return f"{days} {_clock(self.begin)}-{_clock(self.end)}"


class Schedule(Struct, frozen=True, kw_only=True):
    """The windows of one device. ``zone`` is what ``zone_name`` (IANA) names."""

    windows: tuple[MaintenanceWindow, ...]
    zone: tzinfo
    zone_name: str

    def is_open(self, now: float) -> bool:
        """Whether a window is open at ``now`` (Unix seconds)."""
        local = datetime.fromtimestamp(now, self.zone)
        return any(window.holds(local) for window in self.windows)

    def next_opening(self, now: float) -> UnixTime | None:
        """The first moment from ``now`` on at which a window is open; None: none is in :data:`HORIZON_DAYS` days.

        Exact: windows open where the wall clock reaches their beginning, or where it jumps into one, and nowhere else.
        """
        if self.is_open(now):
            return now
        moments = sorted({*self._beginnings(now), *_jumps(self.zone, now, now + HORIZON_DAYS * 86_400.0)})
        return next((moment for moment in moments if moment > now and self.is_open(moment)), None)

    def words(self) -> str:
        """``Sat 02:00-04:00, Sun 02:00-04:00 Europe/Berlin``."""
        return f"{'; '.join(window.words() for window in self.windows)} {self.zone_name}"

    def shown(self, moment: float) -> str:
        """``Sat 2026-11-28 02:00 CET``."""
        local = datetime.fromtimestamp(moment, self.zone)
        return f"{local:%a %Y-%m-%d %H:%M} {local.tzname() or self.zone_name}"

    def _beginnings(self, now: float) -> Iterator[float]:
        """Unix seconds at which the wall clock shows a window's beginning, both times where it does so twice."""
        today = datetime.fromtimestamp(now, self.zone).date()
        for ahead in range(-1, HORIZON_DAYS + 1):
            day = today + timedelta(days=ahead)
            midnight = datetime(day.year, day.month, day.day, tzinfo=self.zone)
            for window in self.windows:
                if day.weekday() in window.days:
                    local = midnight.replace(hour=window.begin // 60, minute=window.begin % 60)
                    yield local.timestamp()
                    yield local.replace(fold=1).timestamp()


def _jumps(zone: tzinfo, begin: float, end: float) -> Iterator[float]:
    """Unix seconds, whole, at which the zone's offset to UTC changes."""
    before = int(begin)
    while before < end:
        after = int(before + _SCAN_SECONDS)
        if _offset(zone, before) != _offset(zone, after):
            low, high = before, after
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(zone, middle) == _offset(zone, before):
                    low = middle
                else:
                    high = middle
            yield float(high)
        before = after


def _offset(zone: tzinfo, moment: float) -> timedelta | None:
    return datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset()


def _days(text: str) -> tuple[int, ...]:
    """``mon-wed,fri`` → 0, 1, 2, 4; ``fri-mon`` goes over the week's end."""
    if text == "daily":
        return tuple(range(len(DAYS)))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        day, stop = DAYS.index(first), DAYS.index(last or first)
        found.add(stop)
        while day != stop:
            found.add(day)
            day = (day + 1) % len(DAYS)
    return tuple(sorted(found))


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def in_words(seconds: float) -> str:
    """``3 h 12 min``, ``2 d 4 h``, ``40 s``; what is under way is never shown as nothing."""
    whole = max(1, round(seconds))
    if whole < 60:  # noqa: PLR2004 - seconds
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:  # noqa: PLR2004 - minutes
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:  # noqa: PLR2004 - hours
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
