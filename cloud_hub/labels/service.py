"""Labels on their way to a device: queued, offered until acknowledged, given up after weeks. In the caller's transaction."""

import hashlib
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from agent.protocol.codec import encode_json
from agent.protocol.ids import Count, Name, UnixTime
from agent.protocol.labels import MAX_LABELS, Label, LabelAnswer, LabelDelivery, LabelReceipt
from cloud_hub.audit.service import record
from cloud_hub.devices.service import get_device
from cloud_hub.errors import ConflictError, TooManyError
from cloud_hub.labels.models import LabelDeliveryRow

MOST_WAITING = 20_000
"""Labels that wait for one device."""
IN_FLIGHT = 8
"""Deliveries that a device is offered at once, the oldest first; half of what it holds."""
GIVE_UP_DAYS = 30.0
FORGET_DAYS = 90.0
"""A settled delivery, whose labels are gone already, is deleted."""


class LabelWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/devices/{device}/labels``."""

    model: Name
    labels: Annotated[tuple[Label, ...], Meta(min_length=1, max_length=MAX_LABELS)]


class DeliveryView(Struct, frozen=True, kw_only=True):
    """One delivery and what came of it."""

    id: str
    device: str
    model: str
    labels: Count
    created: UnixTime
    created_by: str
    settled: UnixTime | None
    """None: the device has not acknowledged it yet."""
    outcomes: dict[str, Count]
    """How many labels met each, on the device."""
    refused: tuple[LabelAnswer, ...]
    """The first that could not be joined, and why."""
    problem: str | None


def queue(session: Session, device: str, wish: LabelWish, *, by: str, now: float) -> DeliveryView:
    """Keep labels for a device; the same labels again are the delivery that is there, unless it came to nothing.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: its identity was revoked.
        TooManyError: too many labels wait for it already.
    """
    if get_device(session, device).revoked is not None:
        raise ConflictError(f"the identity of device {device} was revoked: it can't be sent labels")
    identity = hashlib.sha256(encode_json((device, wish))).hexdigest()[:32]
    row = session.get(LabelDeliveryRow, identity)
    if row is not None and row.problem is None:
        return view(row)
    if row is not None:  # it came to nothing, and somebody wants it again
        session.delete(row)
        session.flush()
    waiting = session.scalar(
        select(func.coalesce(func.sum(LabelDeliveryRow.count), 0)).where(
            LabelDeliveryRow.device == device, LabelDeliveryRow.settled.is_(None)
        )
    )
    if int(waiting or 0) + len(wish.labels) > MOST_WAITING:
        raise TooManyError(
            f"{waiting} labels wait for device {device} already, at most {MOST_WAITING} may: it has not acknowledged them"
        )
    # The hub's time, so that of two deliveries the later one counts, in whatever order they arrive.
    labels = tuple(replace(label, time=now) if label.time is None else label for label in wish.labels)
    delivery = LabelDelivery(id=identity, model=wish.model, labels=labels)
    row = LabelDeliveryRow(
        id=identity,
        device=device,
        model=wish.model,
        count=len(labels),
        created=now,
        created_by=by,
        payload=encode_json(delivery),
        settled=None,
        outcomes=None,
        refused=None,
        problem=None,
    )
    session.add(row)
    origins = ", ".join(sorted({label.origin for label in labels}))
    record(
        session,
        now=now,
        actor=by,
        action="send-labels",
        subject=device,
        model=wish.model,
        labels=len(labels),
        origin=origins,
        delivery=identity,
    )
    return view(row)


def open_deliveries(session: Session, device: str) -> list[bytes]:
    """What a device is to be offered now."""
    query = (
        select(LabelDeliveryRow.payload)
        .where(LabelDeliveryRow.device == device, LabelDeliveryRow.settled.is_(None))
        .order_by(LabelDeliveryRow.created, LabelDeliveryRow.id)
        .limit(IN_FLIGHT)
    )
    return [payload for payload in session.scalars(query) if payload is not None]


def devices_with_deliveries(session: Session) -> list[str]:
    """Devices for which labels wait."""
    query = select(LabelDeliveryRow.device).where(LabelDeliveryRow.settled.is_(None)).distinct()
    return list(session.scalars(query))


def take_receipt(session: Session, device: str, receipt: LabelReceipt, now: float) -> bool:
    """A device has acknowledged a delivery; False where it is not one of its own that waits."""
    row = session.get(LabelDeliveryRow, receipt.id)
    if row is None or row.device != device or row.settled is not None:
        return False
    _settle(row, now, receipt.problem)
    row.outcomes = encode_json(receipt.outcomes).decode()
    row.refused = encode_json(receipt.refused).decode()
    return True


def keep(session: Session, now: float) -> None:
    """Give up what nobody has acknowledged for weeks, and forget what was settled long ago."""
    query = select(LabelDeliveryRow).where(
        LabelDeliveryRow.settled.is_(None), LabelDeliveryRow.created < now - GIVE_UP_DAYS * 86_400
    )
    for row in session.scalars(query).all():
        _settle(row, now, f"the device did not acknowledge it for {GIVE_UP_DAYS:g} days")
        record(
            session,
            now=now,
            actor="hub",
            action="give-up-labels",
            subject=row.device,
            model=row.model,
            labels=row.count,
            delivery=row.id,
        )
    session.execute(delete(LabelDeliveryRow).where(LabelDeliveryRow.settled < now - FORGET_DAYS * 86_400))


def deliveries(session: Session, device: str, limit: int) -> list[DeliveryView]:
    """The newest deliveries to a device; raises NotFoundError where there is none of that name."""
    get_device(session, device)
    query = (
        select(LabelDeliveryRow)
        .where(LabelDeliveryRow.device == device)
        .order_by(LabelDeliveryRow.created.desc(), LabelDeliveryRow.id)
        .limit(limit)
    )
    return [view(row) for row in session.scalars(query)]


def view(row: LabelDeliveryRow) -> DeliveryView:
    return DeliveryView(
        id=row.id,
        device=row.device,
        model=row.model,
        labels=row.count,
        created=row.created,
        created_by=row.created_by,
        settled=row.settled,
        outcomes={} if row.outcomes is None else msgspec.json.decode(row.outcomes, type=dict[str, int]),
        refused=() if row.refused is None else msgspec.json.decode(row.refused, type=tuple[LabelAnswer, ...]),
        problem=row.problem,
    )


def _settle(row: LabelDeliveryRow, now: float, problem: str | None) -> None:
    row.settled, row.payload, row.problem = now, None, problem
