"""Receipts: checked against the device's certificate, kept, and taken as if the device had reported by itself."""

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from agent.protocol.codec import decode_json
from agent.protocol.envelope import RECEIPT_TYPE, Envelope, open_envelope, pae
from agent.protocol.ids import Name, Sha256, UnixTime
from agent.protocol.receipt import MAX_RECEIPT_BYTES, MAX_RECEIPT_ENVELOPE_BYTES, Receipt
from agent.protocol.state import DeploymentReport, Reason
from cloud_hub.audit.service import record
from cloud_hub.bundles.models import BundleReceipt
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import get_device
from cloud_hub.errors import ForbiddenError, InputError, NotFoundError
from cloud_hub.rollouts import reports
from cloud_hub.rollouts.documents import Signing


class ReceiptView(Struct, frozen=True, kw_only=True):
    """One receipt, and whether it was new."""

    sha256: Sha256
    device: Name
    bundle: Sha256
    time: UnixTime
    imported: UnixTime
    imported_by: str
    deployments: tuple[DeploymentReport, ...]
    refusal: Reason | None
    new: bool = False
    """Answer to an import: it was not here before."""


def import_receipt(
    session: Session, data: bytes, *, signing: Signing, by: str, now: float
) -> tuple[ReceiptView, tuple[str, ...]]:
    """Take a receipt, once; also the devices whose desired state changed by it.

    Raises:
        ProtocolError: it can't be read.
        NotFoundError: no such device.
        ForbiddenError: not signed by the device's key, or with a certificate that is not its own now.
    """
    envelope = open_envelope(data, RECEIPT_TYPE, limit=MAX_RECEIPT_ENVELOPE_BYTES)
    receipt = decode_json(envelope.payload, Receipt, limit=MAX_RECEIPT_BYTES)
    _check(get_device(session, receipt.device), receipt, envelope)
    digest = sha256(envelope.payload).hexdigest()
    row = session.get(BundleReceipt, digest)
    if row is not None:
        return _view(row), ()
    row = BundleReceipt(
        sha256=digest,
        device=receipt.device,
        bundle=receipt.bundle,
        time=receipt.time,
        imported=now,
        imported_by=by,
        envelope=data,
    )
    session.add(row)
    session.flush()
    outcomes = [
        f"{each.model} {each.release} {each.phase.value} ({each.deployment})" for each in receipt.deployments
    ]
    record(
        session,
        now=now,
        actor=by,
        action="receipt-import",
        subject=receipt.device,
        receipt=digest,
        bundle=receipt.bundle,
        outcomes=", ".join(outcomes),
        refusal=receipt.refusal.text if receipt.refusal else "none",
    )
    changed = reports.take_deployments(session, receipt.device, receipt.deployments, signing=signing, now=now)
    return _view(row, new=True), changed


def receipts(
    session: Session, device: str | None = None, *, after: str | None = None, limit: int
) -> list[ReceiptView]:
    """Receipts of every device or of one, the newest first, from the one behind ``after`` (a receipt's SHA-256) on.

    Raises:
        NotFoundError: there is no receipt ``after``.
    """
    place = (BundleReceipt.time, BundleReceipt.sha256)
    query = select(BundleReceipt).order_by(*(column.desc() for column in place)).limit(limit)
    if device is not None:
        query = query.where(BundleReceipt.device == device)
    if after is not None:
        last = session.get(BundleReceipt, after)
        if last is None:
            raise NotFoundError(f"after: there is no receipt {after}")
        query = query.where(tuple_(*place) < (last.time, last.sha256))
    return [_view(row) for row in session.scalars(query)]


def newest(session: Session) -> dict[str, ReceiptView]:
    """Device → its newest receipt."""
    keys = (BundleReceipt.device, BundleReceipt.time)
    last = select(BundleReceipt.device, func.max(BundleReceipt.time)).group_by(BundleReceipt.device)
    query = select(BundleReceipt).where(tuple_(*keys).in_(last))
    return {row.device: _view(row) for row in session.scalars(query)}


def _check(device: Device, receipt: Receipt, envelope: Envelope) -> None:
    certificate = _certificate(receipt.certificate)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    if fingerprint != device.certificate_sha256:
        raise ForbiddenError(
            f"the receipt is signed with another certificate than {device.id} has now; if the device was enrolled "
            "again since, write the receipt again: edgeward bundle receipt"
        )
    names = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    key = certificate.public_key()
    if names != [device.id] or not isinstance(key, ec.EllipticCurvePublicKey):
        raise ForbiddenError(f"the certificate in the receipt is not one of {device.id}")
    signatures = [each.sig for each in envelope.signatures if each.keyid == fingerprint]
    if not any(_holds(key, signature, pae(RECEIPT_TYPE, envelope.payload)) for signature in signatures):
        raise ForbiddenError(f"the receipt is not signed by {device.id}, or was changed since")


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise InputError(f"the certificate in the receipt can't be read: {error}") from error


def _holds(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _view(row: BundleReceipt, *, new: bool = False) -> ReceiptView:
    envelope = open_envelope(row.envelope, RECEIPT_TYPE, limit=MAX_RECEIPT_ENVELOPE_BYTES)
    receipt = decode_json(envelope.payload, Receipt, limit=MAX_RECEIPT_BYTES)
    return ReceiptView(
        sha256=row.sha256,
        device=row.device,
        bundle=row.bundle,
        time=row.time,
        imported=row.imported,
        imported_by=row.imported_by,
        deployments=receipt.deployments,
        refusal=receipt.refusal,
        new=new,
    )
