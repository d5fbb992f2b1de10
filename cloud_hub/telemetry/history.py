"""Drift over time: one device's verdicts, the fleet's days, and a map of both. A long span is read from roll-ups alone."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from agent.protocol.drift import DriftWindow
from cloud_hub.telemetry.adding import DAY, LATE_DAYS, when
from cloud_hub.telemetry.bodies import decode_window
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.rollup_bodies import decode_fleet_day
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay
from cloud_hub.telemetry.views import FleetDayView, HeatCell, HeatMap, TimelinePoint, VerdictTimeline

WINDOWS_SPAN = 14 * DAY
"""Up to so long a span is told window by window, a longer one day by day; seconds."""
MOST_POINTS = 2_000
MOST_DEVICES = 200
SEVERITY = {"": 0, "insufficient data": 1, "ok": 2, "warning": 3, "drift": 4}


def verdict_timeline(
    session: Session,
    device: str,
    model: str,
    since: float,
    *,
    now: float,
    slice: str = "",  # noqa: A002 - the field's own word
) -> VerdictTimeline:
    """One device's verdicts of a model since ``since`` (Unix seconds), by release."""
    by_window = now - since <= WINDOWS_SPAN
    found = (
        _windows(session, device, model, slice, since)
        if by_window
        else _days(session, device, model, slice, since)
    )
    points: dict[int, list[TimelinePoint]] = {}
    for release, point in reversed(found[:MOST_POINTS]):
        points.setdefault(release, []).append(point)
    return VerdictTimeline(
        device=device,
        model=model,
        by="window" if by_window else "day",
        points={release: tuple(each) for release, each in sorted(points.items(), reverse=True)},
        cut=len(found) > MOST_POINTS,
    )


def _windows(
    session: Session, device: str, model: str, slice_: str, since: float
) -> list[tuple[int, TimelinePoint]]:
    """Newest first."""
    row = DriftWindowRow
    query = select(
        row.release,
        row.received,
        row.level,
        row.alarm,
        row.incomplete,
        row.window,
    ).where(row.device == device, row.model == model, row.slice == slice_)
    # A clock that can't be right is behind all that is believed, or ahead; then the time of receipt counts.
    behind = and_(row.closed < since - LATE_DAYS * DAY, row.received >= since)
    found = session.execute(
        query.where(or_(row.closed >= since, behind)).order_by(row.closed.desc()).limit(MOST_POINTS + 1)
    )
    points = [
        (
            release,
            _window_point(
                decode_window(body), received=received, level=level, alarm=alarm or "", incomplete=incomplete
            ),
        )
        for release, received, level, alarm, incomplete, body in found
    ]
    return sorted(points, key=lambda each: -each[1].time)


def _window_point(
    window: DriftWindow, *, received: float, level: str, alarm: str, incomplete: bool
) -> TimelinePoint:
    estimate = window.estimate
    return TimelinePoint(
        opened=window.opened,
        closed=window.closed,
        rows=window.rows,
        windows=window.merged,
        level=level,
        alarm=alarm,
        incomplete=incomplete,
        time=when(window.closed, received),
        late=when(window.closed, received) < received - DAY,
        accuracy=estimate.accuracy if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
    )


def _days(
    session: Session, device: str, model: str, slice_: str, since: float
) -> list[tuple[int, TimelinePoint]]:
    row = DeviceDay
    query = select(
        row.release,
        row.day,
        row.rows,
        row.windows,
        row.level,
        row.alarms,
        row.incomplete_windows,
        row.late,
        row.accuracy,
        row.low,
        row.high,
    ).where(row.device == device, row.model == model, row.slice == slice_, row.day >= int(since // DAY))
    found = session.execute(query.order_by(row.day.desc(), row.release.desc()).limit(MOST_POINTS + 1))
    return [
        (
            each.release,
            TimelinePoint(
                opened=float(each.day * DAY),
                closed=float((each.day + 1) * DAY),
                time=float((each.day + 1) * DAY),
                rows=each.rows,
                windows=each.windows,
                level=each.level,
                alarm="drift" if each.alarms else "",
                incomplete=each.incomplete_windows > 0,
                late=each.late > 0,
                accuracy=each.accuracy,
                low=each.low,
                high=each.high,
            ),
        )
        for each in found
    ]


def heat_map(
    session: Session,
    model: str,
    release: int,
    since: float,
    *,
    now: float,
    slice: str = "",  # noqa: A002
    most: int = MOST_DEVICES,
) -> HeatMap:
    """Devices by days since ``since`` (Unix seconds), the worst ``most`` devices, worst first: by days of drift, then warning."""
    first, last = int(since // DAY), int(now // DAY)
    days = range(first, last + 1)
    row = DeviceDay
    here = (row.model == model, row.release == release, row.slice == slice, row.day >= first, row.day <= last)
    # Of all devices only what ranks them is read; the cells, of those that are shown.
    bad = (
        select(row.device, row.level, func.count(), func.max(row.psi))
        .where(*here)
        .group_by(row.device, row.level)
    )
    ranks: dict[str, dict[str, tuple[int, float]]] = {}
    for device, level, count, psi in session.execute(bad):
        ranks.setdefault(device, {})[level] = (count, psi)
    none = (0, 0.0)
    ordered = sorted(
        ranks,
        key=lambda device: (
            *(tuple(-x for x in ranks[device].get(level, none)) for level in ("drift", "warning")),
            device,
        ),
    )
    shown = ordered[:most]
    cells: dict[str, list[HeatCell | None]] = {device: [None] * len(days) for device in shown}
    columns = (
        row.device,
        row.day,
        row.level,
        row.rows,
        row.windows,
        row.psi,
        row.alarms,
        row.incomplete_windows,
    )
    for device, day, *values in session.execute(select(*columns).where(*here, row.device.in_(shown))):
        cells[device][day - first] = _cell(values)
    return HeatMap(
        model=model,
        release=release,
        slice=slice,
        days=tuple(day_name(day) for day in days),
        fleet=_fleet_cells(session, model, release, slice, days),
        devices=tuple(shown),
        cells=tuple(tuple(cells[device]) for device in shown),
        cut=len(ordered) > most,
    )


def _cell(values: Sequence[object]) -> HeatCell:
    level, rows, windows, psi, alarms, incomplete = values
    return HeatCell(level=level, rows=rows, windows=windows, psi=psi, alarms=alarms, incomplete=incomplete)  # type: ignore[arg-type]  # columns of the query above


def _fleet_cells(
    session: Session, model: str, release: int, slice_: str, days: range
) -> tuple[HeatCell | None, ...]:
    row = FleetDay
    query = select(row.day, row.level, row.rows, row.windows, row.psi, row.incomplete_windows).where(
        row.model == model,
        row.release == release,
        row.slice == slice_,
        row.day >= days.start,
        row.day < days.stop,
    )
    cells: list[HeatCell | None] = [None] * len(days)
    for day, level, rows, windows, psi, incomplete in session.execute(query):
        cells[day - days.start] = HeatCell(
            level=level, rows=rows, windows=windows, psi=psi, alarms=0, incomplete=incomplete
        )
    return tuple(cells)


def fleet_days(
    session: Session,
    model: str,
    release: int,
    since: float,
    *,
    slice: str = "",  # noqa: A002
) -> tuple[FleetDayView, ...]:
    """The release's days over the fleet since ``since`` (Unix seconds), oldest first."""
    row = FleetDay
    query = select(row).where(
        row.model == model, row.release == release, row.slice == slice, row.day >= int(since // DAY)
    )
    return tuple(_day_view(found) for found in session.scalars(query.order_by(row.day)))


def _day_view(row: FleetDay) -> FleetDayView:
    body = decode_fleet_day(row.body)
    return FleetDayView(
        day=day_name(row.day),
        slice=row.slice,
        level=row.level,
        raw_level=row.raw_level,
        devices=row.devices,
        rows=row.rows,
        windows=row.windows,
        incomplete_windows=row.incomplete_windows,
        incomplete_rows=row.incomplete_rows,
        unusable=row.unusable,
        left_out=row.left_out,
        psi=row.psi,
        accuracy=row.accuracy,
        levels=body.levels,
        text=body.verdict.text if body.verdict else body.problem or "",
    )


def day_name(day: int) -> str:
    """``2026-11-28``."""
    return f"{datetime.fromtimestamp(day * DAY, UTC):%Y-%m-%d}"
