"""Heat maps: devices by time, the worst first. A row is a skyline, so the worst is also the tallest."""

from collections.abc import Sequence
from datetime import date

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift import VerdictLevel
from cloud_hub.dashboard import addresses, words
from cloud_hub.dashboard.drawing import shares
from cloud_hub.dashboard.drawing.strip import Cell, skyline, told
from cloud_hub.telemetry.views import FleetDayView, HeatCell, HeatMap

LEVELS: dict[str, VerdictLevel] = {
    "ok": "ok",
    "warning": "warning",
    "drift": "drift",
    "insufficient data": "insufficient data",
}


FEW = 12
"""Devices that are shown in any case; of more, only those that were sick on some day."""
SICK = frozenset({"warning", "drift"})


class HeatRow(Struct, frozen=True, kw_only=True):
    name: str
    link: str | None
    svg: Markup
    level: str
    since: str
    """For how long it has been so, where that is longer than a day and not good."""
    all: bool = False
    """The fleet, before its devices."""


class HeatTable(Struct, frozen=True, kw_only=True):
    caption: str
    of: str
    first: str
    last: str
    rows: tuple[HeatRow, ...]


def table(heat: HeatMap, most: int | None = None) -> HeatTable | None:
    """The map's rows, ``most`` of its devices; None of an empty map."""
    if not heat.days or not heat.devices:
        return None
    rows = [_row("the whole fleet", None, heat.fleet, whole=True)]
    rows += [
        _row(device, addresses.device(device), line)
        for place, (device, line) in enumerate(zip(heat.devices[:most], heat.cells[:most], strict=True))
        if place < FEW or any(cell is not None and cell.level in SICK for cell in line)
    ]
    return HeatTable(
        caption=f"{heat.model} {heat.release}: verdicts a day, {words.many(len(rows) - 1, 'device')}, the worst first",
        of="Device",
        first=short(heat.days[0]),
        last=short(heat.days[-1]),
        rows=tuple(rows),
    )


def short(day: str) -> str:
    """``2026-11-28`` as ``28 Nov``."""
    return f"{date.fromisoformat(day):%-d %b}"


def _row(name: str, link: str | None, line: Sequence[HeatCell | None], *, whole: bool = False) -> HeatRow:
    spans = [_cell(each, whole=whole) for each in line]
    levels = [cell.level for cell in spans]
    newest = next((level for level in reversed(levels) if level is not None), None)
    days = lasts(levels)
    since = f"for {days} days" if newest in ("drift", "warning") and days > 1 else ""
    return HeatRow(
        name=name,
        link=link,
        svg=skyline(spans, f"{name}: {told(spans, 'a day')}"),
        level=newest or "",
        since=since,
        all=whole,
    )


def _cell(cell: HeatCell | None, *, whole: bool) -> Cell:
    """A day is drawn as cut off where most of it was; a fleet's never: some device is always switched off."""
    if cell is None:
        return Cell()
    cut = not whole and cell.windows > 0 and cell.incomplete * 2 > cell.windows
    return Cell(level=LEVELS.get(cell.level), incomplete=cut)


def lasts(levels: Sequence[VerdictLevel | None]) -> int:
    """How many of the newest spans the newest verdict has held, spans without one not counted."""
    known = [level for level in levels if level is not None]
    count = 0
    for level in reversed(known):
        if level != known[-1]:
            break
        count += 1
    return count


class ByDay(Struct, frozen=True, kw_only=True):
    """How many devices stood where on each day."""

    svg: Markup
    first: str
    last: str


def by_day(found: Sequence[FleetDayView], days: Sequence[str], name: str) -> ByDay | None:
    """One column for each of ``days``; None where nothing was found."""
    if not found or not days:
        return None
    whole = max(sum(day.levels.values()) for day in found)
    levels = {day.day: day.levels for day in found}
    svg = _columns([levels.get(day, {}) for day in days], whole, name)
    return ByDay(svg=svg, first=short(days[0]), last=short(days[-1]))


def _columns(counted: Sequence[dict[str, int]], whole: int, name: str) -> Markup:
    spans = [{LEVELS[level]: count for level, count in day.items() if level in LEVELS} for day in counted]
    newest = next((span for span in reversed(spans) if span), {})
    said = ", ".join(f"{count} {level}" for level, count in newest.items() if count) or "nothing"
    label = f"{name}: devices by verdict on each of {len(counted)} days; on the newest: {said}"
    return shares.columns(spans, whole, label)
