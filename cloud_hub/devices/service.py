"""Enrol devices, and take what they report."""

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.enrolment import BrokerAddress, EnrolmentRequest, EnrolmentResponse
from agent.protocol.ids import Name, UnixTime
from agent.protocol.state import Presence, ReportedState
from cloud_hub.access.service import hash_secret
from cloud_hub.audit.service import record
from cloud_hub.devices.authority import DeviceAuthority, Revoked
from cloud_hub.devices.models import Device, EnrolmentToken, RevokedCertificate
from cloud_hub.errors import ConflictError, ForbiddenError, NotFoundError

SECRET_BYTES = 24


class TokenWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/enrolment-tokens``."""

    device: Name | None = None
    """Only this device may use it; None: any."""
    lifetime_seconds: Annotated[float, Meta(gt=0, le=30 * 86_400)] = 3_600.0


class IssuedToken(Struct, frozen=True, kw_only=True):
    token: str
    """Seen this once."""
    device: str | None
    expires: UnixTime


class HubHold(Struct, frozen=True, kw_only=True):
    """The hub asks a device to keep what it runs."""

    since: UnixTime
    by: str
    reason: str | None
    text: str
    """All of it in words."""


class DeviceView(Struct, frozen=True, kw_only=True):
    """One device, its newest report whole."""

    id: str
    hardware_class: str
    enrolled: UnixTime
    certificate_expires: UnixTime
    revoked: UnixTime | None = None
    """Since when its identity counts no more."""
    revoked_reason: str | None = None
    hold: HubHold | None = None
    """The hub's own; a technician's is in what the device reports."""
    online: bool
    presence_at: UnixTime | None
    reported_at: UnixTime | None
    reported: ReportedState | None


def issue_token(session: Session, wish: TokenWish, *, root: bytes, by: str, now: float) -> IssuedToken:
    """A new single-use enrolment token that also pins the trusted root."""
    token = f"ew1.{secrets.token_urlsafe(SECRET_BYTES)}.{hashlib.sha256(root).hexdigest()}"
    expires = now + wish.lifetime_seconds
    session.add(
        EnrolmentToken(
            sha256=hash_secret(token), device=wish.device, created=now, created_by=by, expires=expires
        )
    )
    record(
        session,
        now=now,
        actor=by,
        action="enrolment-token",
        subject=wish.device or "any device",
        expires=expires,
    )
    return IssuedToken(token=token, device=wish.device, expires=expires)


class Enroller(Struct, frozen=True, kw_only=True):
    """What every enrolment hands out."""

    authority: DeviceAuthority
    broker: BrokerAddress
    certificate_days: int


def enrol(
    session: Session,
    request: EnrolmentRequest,
    enroller: Enroller,
    *,
    root: bytes,
    minimum_versions: dict[str, int],
    now: float,
) -> EnrolmentResponse:
    """Use up the token and give the device its certificate.

    Raises:
        ForbiddenError: the token is unknown, used, expired, or another device's.
        InputError: the CSR is not one, or not this device's.
    """
    token = _usable_token(session, request, root, now)
    certificate = enroller.authority.issue(request.csr, request.device, enroller.certificate_days, now)
    token.used, token.used_by = now, request.device
    device = session.get(Device, request.device)
    if device is None:
        device = Device(id=request.device, enrolled=now, online=False)
        session.add(device)
    elif device.revoked is None:
        _list_certificate(session, device, "it was enrolled again", now)
    device.revoked = device.revoked_reason = None
    device.hardware_class = request.hardware_class
    device.enrolled = now
    device.certificate_sha256 = certificate.sha256
    device.certificate_serial = certificate.serial
    device.certificate_expires = certificate.expires
    session.flush()
    record(
        session,
        now=now,
        actor=f"device:{request.device}",
        action="enrol",
        subject=request.device,
        hardware_class=request.hardware_class,
        certificate_sha256=certificate.sha256,
    )
    return EnrolmentResponse(
        device=request.device,
        certificate=certificate.pem,
        authority=enroller.authority.pem,
        broker=enroller.broker,
        root=root.decode(),
        minimum_versions=minimum_versions,
    )


def _usable_token(session: Session, request: EnrolmentRequest, root: bytes, now: float) -> EnrolmentToken:
    token = session.get(EnrolmentToken, hash_secret(request.token))
    if token is None:
        raise ForbiddenError("this enrolment token is not known; ask an operator for a new one")
    if token.used is not None:
        raise ForbiddenError(f"this enrolment token was used by {token.used_by}; each works once")
    if token.expires <= now:
        raise ForbiddenError("this enrolment token has expired; ask an operator for a new one")
    if token.device not in (None, request.device):
        raise ForbiddenError(f"this enrolment token is for {token.device}, not for {request.device}")
    if request.token.rpartition(".")[2] != hashlib.sha256(root).hexdigest():
        raise ForbiddenError("the trusted root has changed since this token was made; ask for a new one")
    if token.device is None and session.get(Device, request.device) is not None:
        raise ConflictError(
            f"device {request.device} is enrolled already; to replace its identity, make a token for that device"
        )
    return token


def revoke(session: Session, name: str, *, reason: str, by: str, now: float) -> Device:
    """Take a device's identity: its certificate, and every token that was made for it.

    Raises:
        NotFoundError: there is no such device.
        ConflictError: it is revoked already.
    """
    device = get_device(session, name)
    if device.revoked is not None:
        raise ConflictError(f"device {name} is revoked already: {device.revoked_reason}")
    device.revoked, device.revoked_reason, device.online = now, reason, False
    _list_certificate(session, device, reason, now)
    open_tokens = select(EnrolmentToken).where(EnrolmentToken.device == name, EnrolmentToken.used.is_(None))
    for token in session.scalars(open_tokens):
        token.expires = now
    record(
        session,
        now=now,
        actor=by,
        action="revoke-device",
        subject=name,
        reason=reason,
        certificate_sha256=device.certificate_sha256,
    )
    return device


def revoked_certificates(session: Session, now: float) -> list[Revoked]:
    """What a broker is to refuse; a certificate that has expired is refused without being listed."""
    query = select(RevokedCertificate).where(RevokedCertificate.expires > now)
    return [
        Revoked(serial=row.serial, at=row.revoked)
        for row in session.scalars(query.order_by(RevokedCertificate.revoked, RevokedCertificate.serial))
    ]


def _list_certificate(session: Session, device: Device, reason: str, now: float) -> None:
    session.add(
        RevokedCertificate(
            serial=device.certificate_serial,
            device=device.id,
            expires=device.certificate_expires,
            revoked=now,
            reason=reason,
        )
    )
    session.flush()


def take_report(session: Session, device: Device, state: ReportedState, payload: bytes, now: float) -> bool:
    """Keep a report unless a newer one of the same boot is here; True if it was kept."""
    older = device.reported_boot == state.boot and (device.reported_sequence or 0) > state.sequence
    if older:
        return False
    device.reported, device.reported_at = payload, now
    device.reported_boot, device.reported_sequence = state.boot, state.sequence
    device.hardware_class = state.hardware_class
    session.flush()
    return True


def take_presence(session: Session, device: Device, presence: Presence, now: float) -> None:
    """Keep whether the device is there. The last will of an earlier boot says nothing about this one."""
    if presence.online or device.boot in (None, presence.boot):
        device.online, device.boot, device.presence_at = presence.online, presence.boot, now
        session.flush()


def get_device(session: Session, name: str) -> Device:
    """Raises NotFoundError."""
    device = session.get(Device, name)
    if device is None:
        raise NotFoundError(f"there is no device {name!r}")
    return device


def all_devices(session: Session) -> list[Device]:
    return list(session.scalars(select(Device).order_by(Device.id)))


def hold_of(device: Device) -> HubHold | None:
    """The hub's hold of a device, if there is one."""
    if device.held_since is None or device.held_by is None:
        return None
    since = datetime.fromtimestamp(device.held_since, UTC)
    why = "" if device.held_reason is None else f": {device.held_reason}"
    return HubHold(
        since=device.held_since,
        by=device.held_by,
        reason=device.held_reason,
        text=f"held by the hub since {since:%Y-%m-%d %H:%M} UTC by {device.held_by}{why}",
    )


def view(device: Device) -> DeviceView:
    reported = msgspec.json.decode(device.reported, type=ReportedState) if device.reported else None
    return DeviceView(
        id=device.id,
        hardware_class=device.hardware_class,
        enrolled=device.enrolled,
        certificate_expires=device.certificate_expires,
        revoked=device.revoked,
        revoked_reason=device.revoked_reason,
        hold=hold_of(device),
        online=device.online,
        presence_at=device.presence_at,
        reported_at=device.reported_at,
        reported=reported,
    )
