"""Keep notices: one of each kind and subject, updated while it lasts, ended by itself when it is over."""

import math
from collections.abc import Collection, Mapping

import msgspec
from msgspec import Struct
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from agent.protocol.ids import UnixTime
from agent.protocol.state import ReportedState
from cloud_hub.devices.models import Device
from cloud_hub.labels.accuracy import real_accuracy
from cloud_hub.retraining.models import Notice
from cloud_hub.retraining.noticing import BrokenFacts, DeviceFacts, Found, LabelFacts, NewestFacts
from cloud_hub.retraining.service import Tell
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.models import TelemetryRecord, TelemetryTally
from cloud_hub.telemetry.rollup_bodies import decode_newest
from cloud_hub.telemetry.rollup_models import DeviceDay, NewestWindow
from cloud_hub.telemetry.views import ReleaseDrift

REOPEN_SECONDS = 3_600.0
"""What ends and is back within so long is the same notice, and is not told again."""
KEPT_DAYS = 90
LABEL_DAYS = 7
"""Labels of so many days are laid beside the estimate."""


class NoticeView(Struct, frozen=True, kw_only=True):
    id: int
    kind: str
    subject: str
    severity: str
    text: str
    to_do: str
    since: UnixTime
    updated: UnixTime
    ended: UnixTime | None


def device_facts(session: Session) -> list[DeviceFacts]:
    """Of every device that is enrolled and not revoked."""
    heard = last_heard(session)
    rows = session.scalars(select(Device).where(Device.revoked.is_(None)).order_by(Device.id))
    return [
        DeviceFacts(
            device=row.id,
            enrolled=row.enrolled,
            online=row.online,
            heard=heard.get(row.id),
            outbox=msgspec.json.decode(row.reported, type=ReportedState).outbox if row.reported else None,
        )
        for row in rows
    ]


def last_heard(session: Session) -> dict[str, float]:
    """Device → when the record with the highest sequence of any of its epochs came; found by the key, not by a scan."""
    record = TelemetryRecord
    epochs = select(TelemetryTally.device, TelemetryTally.epoch).distinct().subquery()
    newest = (
        select(record.received)
        .where(record.device == epochs.c.device, record.epoch == epochs.c.epoch)
        .order_by(record.sequence.desc())
        .limit(1)
        .correlate(epochs)
        .scalar_subquery()
    )
    found: dict[str, float] = {}
    for device, received in session.execute(select(epochs.c.device, newest)):
        if received is not None:
            found[device] = max(received, found.get(device, 0.0))
    return found


def newest_facts(session: Session, since: float) -> list[NewestFacts]:
    """Of windows that came since ``since``, of the newest release of each device and model."""
    row = NewestWindow
    query = (
        select(row)
        .where(row.slice == "", row.received >= since)
        .order_by(row.device, row.model, row.received)
    )
    found = {(each.device, each.model): each for each in session.scalars(query)}
    return [
        NewestFacts(
            device=each.device,
            model=each.model,
            release=each.release,
            level=each.level,
            claimed=each.claimed,
            level_since=each.level_since,
            received=each.received,
            problem=None if each.level else decode_newest(each.body).problem,
        )
        for each in found.values()
    ]


def broken_facts(session: Session, now: float, hours: float) -> list[BrokenFacts]:
    """Of devices that sent incomplete windows on this day or the one before, and no complete one for ``hours``."""
    row, last = DeviceDay, NewestWindow
    complete = {
        (device, model): received
        for device, model, received in session.execute(
            select(last.device, last.model, func.max(last.received))
            .where(last.slice == "")
            .group_by(last.device, last.model)
        )
    }
    today = int(now // DAY)
    query = (
        select(row.device, row.model, func.min(row.day), func.max(row.day), func.sum(row.incomplete_windows))
        .where(row.slice == "", row.incomplete_windows > 0, row.day >= today - math.ceil(hours / 24) - 1)
        .group_by(row.device, row.model)
        .order_by(row.device, row.model)
    )
    found = [
        BrokenFacts(
            device=device,
            model=model,
            windows=windows,
            since=complete.get((device, model), float(first * DAY)),
        )
        for device, model, first, newest, windows in session.execute(query)
        if newest >= today - 1
    ]
    return [each for each in found if now - each.since >= hours * 3_600]


def label_facts(session: Session, drift: ReleaseDrift, now: float) -> LabelFacts | None:
    """Labels of people and systems of the last days, beside the fleet's estimate; None where one of both is missing."""
    if drift.estimate is None:
        return None
    found = [
        each
        for each in real_accuracy(session, drift.model, since=now - LABEL_DAYS * DAY, daily=True)
        if each.release == drift.release
        and each.slice is None
        and each.origin != "model"
        and each.opened >= now - LABEL_DAYS * DAY
    ]
    rows = sum(each.rows for each in found)
    if not rows:
        return None

    def mean(name: str) -> float:
        return float(sum(getattr(each, name) * each.rows for each in found) / rows)

    return LabelFacts(
        model=drift.model,
        release=drift.release,
        rows=rows,
        accuracy=mean("accuracy"),
        low=mean("low"),
        high=mean("high"),
        estimated=drift.estimate.accuracy,
        estimated_low=drift.estimate.low,
        estimated_high=drift.estimate.high,
    )


def told_before(session: Session, kind: str) -> dict[str, tuple[str, float]]:
    """Subject → text of the last notice of a kind, and since when it has said that."""
    row = Notice
    query = select(row.subject, row.text, row.updated).where(row.kind == kind).order_by(row.id)
    return {subject: (text, updated) for subject, text, updated in session.execute(query)}


def reconcile(
    session: Session,
    found: Mapping[tuple[str, str], Found],
    now: float,
    tell: Tell,
    *,
    unknown: Collection[str] = (),
) -> None:
    """Make the notices that stand those that should: open, update, end; of kinds that are ``unknown`` now none ends."""
    standing = {
        (row.kind, row.subject): row for row in session.scalars(select(Notice).where(Notice.ended.is_(None)))
    }
    for key, row in standing.items():
        if key not in found and row.kind not in unknown:
            row.ended = now
            tell("notice-ended", view(row))
    for key, new in found.items():
        existing = standing.get(key) or _ended_just_now(session, key, now)
        if existing is None:
            row = Notice(kind=new.kind, subject=new.subject, since=min(new.since, now), updated=now)
            _say(row, new)
            session.add(row)
            session.flush()
            tell("notice-opened", view(row))
            continue
        existing.ended = None
        if existing.text != new.text:
            _say(existing, new)
            existing.updated = now
    session.execute(delete(Notice).where(Notice.ended < now - KEPT_DAYS * DAY))
    session.flush()


def _ended_just_now(session: Session, key: tuple[str, str], now: float) -> Notice | None:
    row = Notice
    query = select(row).where(row.kind == key[0], row.subject == key[1], row.ended >= now - REOPEN_SECONDS)
    return session.scalar(query.order_by(row.id.desc()).limit(1))


def _say(row: Notice, found: Found) -> None:
    row.severity, row.text, row.to_do = found.severity, found.text, found.to_do


def notices(session: Session, *, ended: bool = False, limit: int = 500) -> list[NoticeView]:
    """Those that stand, the newest first; with ``ended`` also those that stood."""
    row = Notice
    query = select(row) if ended else select(row).where(row.ended.is_(None))
    found = session.scalars(
        query.order_by(row.ended.is_not(None), row.since.desc(), row.id.desc()).limit(limit)
    )
    return [view(each) for each in found]


def view(row: Notice) -> NoticeView:
    return NoticeView(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        severity=row.severity,
        text=row.text,
        to_do=row.to_do,
        since=row.since,
        updated=row.updated,
        ended=row.ended,
    )
