"""Requests for samples, in the caller's transaction: taken from approvers, offered to devices, answered."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated

from msgspec import Meta, Struct
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, pae
from agent.protocol.ids import Count, UnixTime
from agent.protocol.samples import MAX_SAMPLE_ENVELOPE_BYTES, read_sample_request
from agent.protocol.telemetry import SampleAnswer
from agent.protocol.words import one_line
from cloud_hub.access.service import Caller
from cloud_hub.audit.service import record
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import get_device
from cloud_hub.errors import ConflictError, InputError, NotFoundError
from cloud_hub.samples.models import SampleOffer, SampleRequestRow, SampleRow
from cloud_hub.signing.director import Director
from cloud_hub.signing.repository import Repository

CLOCK_SECONDS = 86_400.0
"""Devices refuse a request that was made further in the future."""


class OfferedRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/samples/requests``: what the approver's client made and the approver signed."""

    payload: Annotated[bytes, Meta(max_length=MAX_SAMPLE_ENVELOPE_BYTES)]
    """:class:`agent.protocol.samples.SampleRequest` as JSON, as the bytes that were signed (base64)."""
    keyid: Annotated[str, Meta(min_length=1, max_length=128)]
    sig: Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{2}){1,1024}$(?!\n)")]
    """Hexadecimal; over the envelope's pre-authentication encoding."""


class OfferView(Struct, frozen=True, kw_only=True):
    """One device of a request."""

    device: str
    answered: UnixTime | None
    """None: it has not answered yet, and is offered the request at each connect."""
    accepted: bool | None
    code: str | None
    text: str | None
    chosen: Count
    """Samples that the device lets go."""
    arrived: Count
    """Samples that are here."""


class RequestView(Struct, frozen=True, kw_only=True):
    """A request and how far it is."""

    id: str
    model: str
    first_release: int
    last_release: int
    maximum: Count
    purpose: str
    created: UnixTime
    expires: UnixTime
    approver: str
    sent_by: str
    closed: UnixTime | None
    devices: tuple[OfferView, ...]


def take_request(
    session: Session,
    offered: OfferedRequest,
    *,
    repository: Repository,
    director: Director,
    caller: Caller,
    now: float,
) -> SampleRequestRow:
    """Check a request, add the director's signature and keep it; it is to be offered to its devices after the commit.

    Raises:
        ProtocolError: it is none, or contradicts itself.
        SigningError: there is no such model, or it is not validly signed by one of its approvers.
        InputError: it has expired, or was made in the future.
        NotFoundError: a device is not enrolled here.
        ConflictError: its id is taken, or a device's identity was revoked.
    """
    request = read_sample_request(offered.payload)
    signed = pae(SAMPLE_REQUEST_TYPE, offered.payload)
    approver = repository.check_approval(request.model, offered.keyid, offered.sig, signed)
    if now >= request.expires:
        raise InputError(f"request {request.id} expired at {_utc(request.expires)}")
    if request.created > now + CLOCK_SECONDS:
        raise InputError(
            f"request {request.id} was made in the future; set the clock of the approver's machine"
        )
    if session.get(SampleRequestRow, request.id) is not None:
        raise ConflictError(f"there is a request {request.id} already; each id is used once")
    for name in request.devices:
        if get_device(session, name).revoked is not None:
            raise ConflictError(f"the identity of {name} was revoked: it is asked for nothing")
    row = SampleRequestRow(
        id=request.id,
        model=request.model,
        first_release=request.first_release,
        last_release=request.last_release,
        maximum=request.maximum,
        purpose=request.purpose,
        created=request.created,
        expires=request.expires,
        approver=approver,
        keyid=offered.keyid,
        sent_by=caller.name,
        digest=sha256(offered.payload).hexdigest(),
        envelope=director.seal_sample_request(offered.payload, offered.keyid, bytes.fromhex(offered.sig)),
        closed=None,
    )
    session.add(row)
    session.flush()
    for name in dict.fromkeys(request.devices):
        session.add(SampleOffer(request=request.id, device=name, chosen=0))
    session.flush()
    record(
        session,
        now=now,
        actor=caller.name,
        action="sample-request",
        subject=request.id,
        model=request.model,
        releases=f"{request.first_release}-{request.last_release}",
        devices=", ".join(request.devices),
        maximum=request.maximum,
        purpose=request.purpose,
        approver=approver,
        keyid=offered.keyid,
        digest=row.digest,
        expires=_utc(request.expires),
    )
    return row


def open_offers(session: Session, device: str, now: float) -> list[bytes]:
    """Envelopes that ``device`` has not answered yet, the oldest first."""
    query = (
        select(SampleRequestRow.envelope)
        .join(SampleOffer, SampleOffer.request == SampleRequestRow.id)
        .join(Device, Device.id == SampleOffer.device)
        .where(
            SampleOffer.device == device,
            Device.revoked.is_(None),
            SampleOffer.answered.is_(None),
            SampleRequestRow.closed.is_(None),
            SampleRequestRow.expires > now,
        )
        .order_by(SampleRequestRow.created)
    )
    return [bytes(envelope) for envelope in session.scalars(query)]


def devices_with_offers(session: Session, now: float) -> list[str]:
    """Devices to which something is still to be offered, by name."""
    query = (
        select(SampleOffer.device)
        .join(SampleRequestRow, SampleOffer.request == SampleRequestRow.id)
        .join(Device, Device.id == SampleOffer.device)
        .where(
            Device.revoked.is_(None),
            SampleOffer.answered.is_(None),
            SampleRequestRow.closed.is_(None),
            SampleRequestRow.expires > now,
        )
        .distinct()
        .order_by(SampleOffer.device)
    )
    return list(session.scalars(query))


def take_answer(session: Session, device: str, answer: SampleAnswer, now: float) -> bool:
    """Keep a device's answer; False: it was asked nothing like that."""
    row = session.get(SampleRequestRow, answer.request)
    offer = session.get(SampleOffer, (answer.request, device))
    if row is None or offer is None or row.digest != answer.digest:
        return False
    offer.answered, offer.accepted = now, answer.accepted
    text = one_line(answer.text)
    offer.code, offer.text, offer.chosen = answer.code, text, answer.chosen
    record(
        session,
        now=now,
        actor=device,
        action="sample-answer",
        subject=answer.request,
        accepted=answer.accepted,
        code=answer.code,
        text=text,
        chosen=answer.chosen,
        too_large=", ".join(answer.too_large),
    )
    return True


def close(session: Session, identity: str, *, by: str, now: float) -> RequestView:
    """Offer a request to nobody any more, and take nothing for it; what is here stays. Closing it again changes nothing.

    Raises:
        NotFoundError: there is no such request.
    """
    row = get_request(session, identity)
    if row.closed is None:
        row.closed = now
        record(session, now=now, actor=by, action="sample-request-close", subject=identity)
    return view(session, row)


def get_request(session: Session, identity: str) -> SampleRequestRow:
    """Raises NotFoundError."""
    row = session.get(SampleRequestRow, identity)
    if row is None:
        raise NotFoundError(f"there is no request for samples {identity!r}")
    return row


def all_requests(session: Session, limit: int) -> list[RequestView]:
    """The newest first."""
    query = (
        select(SampleRequestRow).order_by(SampleRequestRow.created.desc(), SampleRequestRow.id).limit(limit)
    )
    return [view(session, row) for row in session.scalars(query).all()]


def view(session: Session, row: SampleRequestRow) -> RequestView:
    """A request as it is told."""
    counted = select(SampleRow.device, func.count()).where(SampleRow.request == row.id)
    arrived = {device: count for device, count in session.execute(counted.group_by(SampleRow.device))}  # noqa: C416 - rows are tuples by name only
    offers = session.scalars(
        select(SampleOffer).where(SampleOffer.request == row.id).order_by(SampleOffer.device)
    )
    return RequestView(
        id=row.id,
        model=row.model,
        first_release=row.first_release,
        last_release=row.last_release,
        maximum=row.maximum,
        purpose=row.purpose,
        created=row.created,
        expires=row.expires,
        approver=row.approver,
        sent_by=row.sent_by,
        closed=row.closed,
        devices=tuple(
            OfferView(
                device=offer.device,
                answered=offer.answered,
                accepted=offer.accepted,
                code=offer.code,
                text=offer.text,
                chosen=offer.chosen,
                arrived=arrived.get(offer.device, 0),
            )
            for offer in offers
        ),
    )


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
