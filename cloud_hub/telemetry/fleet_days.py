"""The fleet's day: the devices' days judged and merged, robust and raw. Read first, written after: the writer waits for no statistics."""

from collections import Counter

import msgspec
from msgspec import Struct
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.protocol.drift import AccuracyEstimate, DriftReference, SignalCounts
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, FleetMerge, merge_fleet
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.rollup_bodies import FleetDayBody, decode_counts, encode
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay
from cloud_hub.telemetry.rollups import ReferenceOf

DIRTY = text("dirty")
"""As the partial index says it."""
INTERVAL_LEVEL = 0.95
"""Of a day's estimate, whose windows may have been made with several."""


class FleetDayKey(Struct, frozen=True, kw_only=True):
    """A fleet's day that is to be made anew, as it stood when that was found."""

    model: str
    release: int
    slice: str
    day: int
    changes: int


class MadeDay(Struct, frozen=True, kw_only=True):
    """What :func:`make` found, to be written by :func:`keep`."""

    key: FleetDayKey
    fields: dict[str, object]
    """Columns of :class:`FleetDay`."""
    devices: tuple[tuple[str, str, float, int, int], ...]
    """Of devices whose day had changed: name, level, PSI, and the windows and rows that it was judged with."""


def stale(session: Session, now: float, *, at_least: float, limit: int) -> list[FleetDayKey]:
    """Days to be made anew, those that waited longest first; none that was made less than ``at_least`` seconds ago.

    The whole and the slices have half of the turns each, where both wait: slices are many.
    """
    row = FleetDay
    query = select(row.model, row.release, row.slice, row.day, row.changes).where(
        DIRTY, row.computed <= now - at_least
    )
    whole, slices = (
        [
            FleetDayKey(model=model, release=release, slice=slice_, day=day, changes=changes)
            for model, release, slice_, day, changes in session.execute(
                query.where(of).order_by(row.computed).limit(limit)
            )
        ]
        for of in (row.slice == "", row.slice != "")
    )
    turns = max(limit - len(slices), -(-limit // 2))
    return [*whole[:turns], *slices[: limit - len(whole[:turns])]]


def postpone(session: Session, key: FleetDayKey, now: float) -> None:
    """Put a day that could not be made behind all others; it stays to be made."""
    here = (
        FleetDay.model == key.model,
        FleetDay.release == key.release,
        FleetDay.slice == key.slice,
        FleetDay.day == key.day,
    )
    session.execute(update(FleetDay).where(*here).values(computed=now))


def make(session: Session, key: FleetDayKey, reference_of: ReferenceOf) -> MadeDay:
    """Merge and judge one day, in a reader's session."""
    row = DeviceDay
    rows = session.scalars(
        select(row).where(
            row.model == key.model, row.release == key.release, row.slice == key.slice, row.day == key.day
        )
    ).all()
    reference = reference_of(key.model, key.release) or "the hub has no such release"
    parts = [
        DeviceCounts(device=row.device, rows=row.rows, signals=_signals(row), estimate=_estimate(row))
        for row in rows
        if row.rows
    ]
    levels = {row.device: (row.level, row.psi) for row in rows}
    changed: list[tuple[str, str, float, int, int]] = []
    merge: FleetMerge | None = None
    if isinstance(reference, DriftReference):
        signals = {part.device: part.signals for part in parts}
        for each in rows:
            if not each.judged:
                found = _judged(reference, signals.get(each.device), each.rows)
                levels[each.device] = found
                changed.append((each.device, *found, each.windows, each.rows))
        merge = merge_fleet(reference, parts)
    return MadeDay(key=key, fields=_fields(list(rows), merge, reference, levels), devices=tuple(changed))


def keep(session: Session, made: MadeDay, now: float) -> bool:
    """Write a day; False where windows came meanwhile, so that it is to be made once more."""
    key = made.key
    here = (
        FleetDay.model == key.model,
        FleetDay.release == key.release,
        FleetDay.slice == key.slice,
        FleetDay.day == key.day,
    )
    session.execute(update(FleetDay).where(*here).values(computed=now, **made.fields))
    kept = session.execute(update(FleetDay).where(*here, FleetDay.changes == key.changes).values(dirty=False))
    for device, level, psi, windows, rows in made.devices:
        session.execute(
            update(DeviceDay)
            .where(
                DeviceDay.device == device,
                DeviceDay.model == key.model,
                DeviceDay.release == key.release,
                DeviceDay.slice == key.slice,
                DeviceDay.day == key.day,
                DeviceDay.windows == windows,
                DeviceDay.rows == rows,
            )
            .values(level=level, psi=psi, judged=True)
        )
    return bool(kept.rowcount)  # type: ignore[attr-defined]  # an update has one


def _judged(
    reference: DriftReference, signals: dict[str, SignalCounts] | None, rows: int
) -> tuple[str, float]:
    if not signals:
        return "", 0.0
    try:
        judgement = judged(reference, signals, rows)
    except DriftError:
        return "", 0.0
    return judgement.verdict.level, round(
        max((found.psi for found in judgement.signals.values()), default=0.0), 4
    )


def _signals(row: DeviceDay) -> dict[str, SignalCounts]:
    """Nothing where they can't be read: this device is left out then, and the fleet has its day."""
    try:
        return decode_counts(row.body).signals
    except msgspec.DecodeError:
        return {}


def _estimate(row: DeviceDay) -> AccuracyEstimate | None:
    if row.accuracy is None or row.low is None or row.high is None:
        return None
    return AccuracyEstimate(
        accuracy=row.accuracy, low=row.low, high=row.high, level=INTERVAL_LEVEL, rows=row.estimate_rows
    )


def _fields(
    rows: list[DeviceDay],
    merge: FleetMerge | None,
    reference: DriftReference | str,
    levels: dict[str, tuple[str, float]],
) -> dict[str, object]:
    verdict = merge.verdict if merge else None
    estimate = merge.estimate if merge else None
    body = FleetDayBody(
        verdict=verdict,
        robust=merge.robust if merge else {},
        raw=merge.raw if merge else {},
        estimate=estimate,
        levels=dict(Counter(level for level, _ in levels.values() if level)),
        problem=reference if isinstance(reference, str) else None,
    )
    return {
        "level": verdict.level if verdict else "",
        "raw_level": verdict.raw.level if verdict else "",
        "devices": len(rows),
        "rows": sum(row.rows for row in rows),
        "windows": sum(row.windows for row in rows),
        "incomplete_windows": sum(row.incomplete_windows for row in rows),
        "incomplete_rows": sum(row.incomplete_rows for row in rows),
        "unusable": sum(row.unusable for row in rows),
        "left_out": len(verdict.left_out) if verdict else len(merge.unusable) if merge else 0,
        "psi": round(max((found.psi for found in verdict.signals.values()), default=0.0), 4)
        if verdict
        else 0.0,
        "accuracy": estimate.accuracy if estimate else None,
        "body": encode(body),
    }
