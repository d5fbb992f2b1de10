"""The samples themselves, in the caller's transaction: taken out of telemetry, listed, handed out, deleted.

They arrive as telemetry does, once each. From there they are moved here at once, so that they lie in one table, behind one
role, and are gone when their time is over.
"""

import logging

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from agent.protocol.ids import Count, UnixTime
from agent.protocol.telemetry import Sample, SampleAnswer
from cloud_hub.access.service import Caller
from cloud_hub.audit.service import record
from cloud_hub.errors import NotFoundError
from cloud_hub.samples.models import SampleOffer, SampleRequestRow, SampleRow
from cloud_hub.samples.service import get_request, take_answer
from cloud_hub.telemetry.bodies import decode_body, encode_body
from cloud_hub.telemetry.models import TelemetryRecord

log = logging.getLogger(__name__)

KINDS = ("sample", "sample-answer")
BATCH = 200
SECONDS_A_DAY = 86_400.0


class SampleInfo(Struct, frozen=True, kw_only=True):
    """A sample that is here, without its tensors."""

    device: str
    sample: str
    model: str
    release: int
    taken: UnixTime
    received: UnixTime
    why: tuple[str, ...]
    confidence: float | None
    size_bytes: Count


def anything_waits(session: Session) -> bool:
    """Whether :func:`take_in` has something to do; asked every second, so that no writer waits for nothing."""
    query = select(TelemetryRecord.sequence).where(
        TelemetryRecord.kind.in_(KINDS), TelemetryRecord.body.is_not(None)
    )
    return session.scalar(query.limit(1)) is not None


def take_in(session: Session, now: float, told: dict[str, float]) -> None:
    """Move what has arrived out of telemetry, of which the key stays; a batch at a time.

    What nobody has asked for is not kept. ``told``: when the audit log was last told so of a device; not more often than daily.
    """
    query = (
        select(TelemetryRecord)
        .where(TelemetryRecord.kind.in_(KINDS), TelemetryRecord.body.is_not(None))
        .order_by(TelemetryRecord.received, TelemetryRecord.sequence)
        .limit(BATCH)
    )
    rows = session.scalars(query).all()
    refused: dict[str, int] = {}
    for row in rows:
        data, row.body = row.body or b"", None
        if not _taken(session, row.device, data, now):
            refused[row.device] = refused.get(row.device, 0) + 1
    for device, count in refused.items():
        log.warning("samples that nobody asked for were let go", extra={"device": device, "count": count})
        if now - told.get(device, 0.0) >= SECONDS_A_DAY:
            told[device] = now
            record(session, now=now, actor="hub", action="sample-unasked", subject=device, records=count)
    session.flush()


def _taken(session: Session, device: str, data: bytes, now: float) -> bool:
    """By itself, so that one that can't be stored is let go and holds up no other."""
    try:
        with session.begin_nested():
            return _take(session, device, data, now)
    except (OperationalError, InterfaceError):  # of the database, not of this record
        raise
    except (SQLAlchemyError, ValueError, OverflowError):
        log.exception("what a device sent can't be stored", extra={"device": device})
        return False


def _take(session: Session, device: str, data: bytes, now: float) -> bool:
    try:
        body = decode_body(data)
    except msgspec.DecodeError:  # of an older hub; it must not be looked at for ever
        return False
    if isinstance(body, SampleAnswer):
        return take_answer(session, device, body, now)
    return isinstance(body, Sample) and _keep(session, device, body, now)


def _keep(session: Session, device: str, sample: Sample, now: float) -> bool:
    request = session.get(SampleRequestRow, sample.request)
    if (
        request is None
        or request.closed is not None
        or session.get(SampleOffer, (sample.request, device)) is None
        or sample.model != request.model
        or not request.first_release <= sample.release <= request.last_release
    ):
        return False
    key = (sample.request, device, sample.sample)
    if session.get(SampleRow, key) is not None:
        return True
    of_device = (SampleRow.request == sample.request, SampleRow.device == device)
    if (
        session.scalar(select(func.count()).select_from(SampleRow).where(*of_device)) or 0
    ) >= request.maximum:
        return False
    data = encode_body(sample)
    session.add(
        SampleRow(
            request=sample.request,
            device=device,
            sample=sample.sample,
            model=sample.model,
            release=sample.release,
            taken=sample.taken,
            received=now,
            why=",".join(sample.why),
            confidence=sample.confidence,
            size=len(data),
            body=data,
        )
    )
    session.flush()
    return True


def listed(session: Session, request: str) -> list[SampleInfo]:
    """The samples of a request, by device and id.

    Raises:
        NotFoundError: there is no such request.
    """
    get_request(session, request)
    query = select(SampleRow).where(SampleRow.request == request).order_by(SampleRow.device, SampleRow.sample)
    return [_info(row) for row in session.scalars(query)]


def hand_out(
    session: Session, request: str, device: str, sample: str, *, caller: Caller, now: float
) -> Sample:
    """One sample whole; written into the audit log with who took it.

    Raises:
        NotFoundError: it is not here (any more).
    """
    row = session.get(SampleRow, (request, device, sample))
    if row is None:
        raise NotFoundError(f"request {request} has no sample {sample!r} of {device!r}, or it was deleted")
    body = decode_body(row.body)
    if not isinstance(body, Sample):
        raise NotFoundError(f"sample {sample!r} of {device!r} can't be read")
    record(
        session,
        now=now,
        actor=caller.name,
        action="sample-download",
        subject=request,
        device=device,
        sample=sample,
    )
    return body


def delete_all(session: Session, request: str, *, by: str, now: float) -> int:
    """Delete the samples of a request, and close it; returns how many there were.

    Raises:
        NotFoundError: there is no such request.
    """
    row = get_request(session, request)
    row.closed = row.closed or now
    count = _deleted(session, SampleRow.request == request)
    record(session, now=now, actor=by, action="sample-delete", subject=request, samples=count)
    return count


def forget_old(session: Session, days: float, now: float) -> int:
    """Delete the samples that have been here for longer than ``days``; returns how many."""
    count = _deleted(session, SampleRow.received < now - days * SECONDS_A_DAY)
    if count:
        record(session, now=now, actor="hub", action="sample-retention", subject="samples", samples=count)
    return count


def _deleted(session: Session, condition: ColumnElement[bool]) -> int:
    return len(session.execute(delete(SampleRow).where(condition).returning(SampleRow.sample)).all())


def _info(row: SampleRow) -> SampleInfo:
    return SampleInfo(
        device=row.device,
        sample=row.sample,
        model=row.model,
        release=row.release,
        taken=row.taken,
        received=row.received,
        why=tuple(row.why.split(",")) if row.why else (),
        confidence=row.confidence,
        size_bytes=row.size,
    )
