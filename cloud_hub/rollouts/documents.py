"""Sign what each device is to run: one director's document a device, with all its models."""

from datetime import UTC, datetime

from msgspec import Struct
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.ids import MANIFEST_FILENAME, release_path
from agent.protocol.state import Assignment, DesiredState, ShadowPolicy, VariantPolicy
from cloud_hub.devices.models import Device
from cloud_hub.errors import NotFoundError
from cloud_hub.registry.models import ReleaseFile
from cloud_hub.rollouts.models import DesiredAssignment, DesiredDocument
from cloud_hub.signing.director import Director

SECONDS_A_DAY = 86_400


class Signing(Struct, frozen=True, kw_only=True):
    """The director's key, and how long its documents live."""

    director: Director
    days: int


def assign(
    session: Session,
    device: str,
    model: str,
    release: int,
    *,
    deployment: str,
    policy: VariantPolicy,
    shadow: ShadowPolicy | None = None,
) -> None:
    """Set one model of a device's desired state; it reaches the device with :func:`sign_document`."""
    row = session.get(DesiredAssignment, (device, model))
    if row is None:
        row = DesiredAssignment(device=device, model=model)
        session.add(row)
    row.release, row.deployment, row.policy = release, deployment, policy.value
    row.shadow = stored_shadow(shadow)
    session.flush()


def stored_shadow(shadow: ShadowPolicy | None) -> bytes | None:
    """As it stands in a table."""
    return None if shadow is None else encode_json(shadow)


def shadow_from(stored: bytes | None) -> ShadowPolicy | None:
    """What :func:`stored_shadow` made."""
    return None if stored is None else decode_json(stored, ShadowPolicy)


def unassign(session: Session, device: str, model: str) -> None:
    """Take a model out of a device's desired state."""
    row = session.get(DesiredAssignment, (device, model))
    if row is not None:
        session.delete(row)
        session.flush()


def sign_document(session: Session, device: str, signing: Signing, now: float) -> None:
    """Sign the next version of a device's document from its assignments; none for a device whose identity was revoked."""
    row = session.get(Device, device)
    if row is not None and row.revoked is not None:
        return
    held = row is not None and row.held_since is not None
    rows = session.scalars(select(DesiredAssignment).where(DesiredAssignment.device == device))
    assignments = dict(_target(session, row, held=held) for row in rows)
    document = session.get(DesiredDocument, device)
    if document is None:
        document = DesiredDocument(device=device, version=0)
        session.add(document)
    document.version += 1
    document.signed, document.expires = now, now + signing.days * SECONDS_A_DAY
    expires = datetime.fromtimestamp(document.expires, UTC)
    document.keyid = signing.director.keyid
    document.document = signing.director.sign(
        device, document.version, assignments, expires, issued=datetime.fromtimestamp(now, UTC)
    )
    session.flush()


def _target(
    session: Session, row: DesiredAssignment, *, held: bool
) -> tuple[str, tuple[int, str, Assignment]]:
    manifest = session.get(ReleaseFile, (row.model, row.release, MANIFEST_FILENAME))
    if manifest is None:
        raise NotFoundError(f"release {row.model} {row.release} has no {MANIFEST_FILENAME}")
    order = Assignment(
        deployment=row.deployment,
        variant_policy=VariantPolicy(row.policy),
        hold=held,
        shadow=shadow_from(row.shadow),
    )
    path = release_path(row.model, row.release, MANIFEST_FILENAME)
    return path, (manifest.size, manifest.sha256, order)


def desired_payload(session: Session, device: str) -> bytes | None:
    """The message for the ``desired`` topic; None while the device has no document, nothing where it is revoked."""
    if _is_revoked(session, device):
        return b""  # takes what is retained from the broker
    document = session.get(DesiredDocument, device)
    if document is None:
        return None
    return encode_json(DesiredState(device=device, director=document.document))


def _is_revoked(session: Session, device: str) -> bool:
    row = session.get(Device, device)
    return row is not None and row.revoked is not None


def devices_with_documents(session: Session) -> list[str]:
    return list(session.scalars(select(DesiredDocument.device).order_by(DesiredDocument.device)))


def renew_documents(session: Session, signing: Signing, now: float) -> tuple[str, ...]:
    """Sign again what has lived half of its life, or is signed with a director's key that is gone; whose document changed."""
    soon = now + signing.days * SECONDS_A_DAY / 2
    if session.scalar(select(DesiredDocument.device).limit(1)) is None:
        return ()  # before the first ceremony there is no key to ask for
    old = or_(DesiredDocument.expires < soon, DesiredDocument.keyid != signing.director.keyid)
    active = select(Device.id).where(Device.revoked.is_(None))
    query = select(DesiredDocument.device).where(old, DesiredDocument.device.in_(active))
    names = list(session.scalars(query))
    for name in names:
        sign_document(session, name, signing, now)
    return tuple(names)
