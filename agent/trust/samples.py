"""A request for samples, checked (pure): the hub passes it on, an approver of the model wants it, and it is for this device now."""

from datetime import UTC, datetime
from hashlib import sha256

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature
from tuf.api.metadata import Targets

from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, Envelope, open_envelope, pae
from agent.protocol.errors import ProtocolError
from agent.protocol.samples import MAX_SAMPLE_ENVELOPE_BYTES, VerifiedSampleRequest, read_sample_request
from agent.trust.director import ROLE
from agent.trust.errors import (
    BAD_SIGNATURE,
    MALFORMED,
    NOT_AN_APPROVER,
    REQUEST_EXPIRED,
    WRONG_DEVICE,
    RefusedError,
)
from agent.trust.releases import delegation

MAX_SIGNATURES = 8
"""Looked at: each costs a check."""
CLOCK_SECONDS = 86_400.0
"""An approver's clock may be ahead by so much; by more, its bound on a request's life would say nothing."""


def check_sample_request(
    data: bytes, *, targets: Targets, device: str, now: datetime
) -> VerifiedSampleRequest:
    """Check a request's envelope against the top-level targets role, which names the director and each model's approvers.

    Args:
        data: the envelope.
        targets: verified top-level targets, the newest: an approver who was revoked is not in it any more.
        device: this device's id.
        now: trusted time, UTC.

    Raises:
        RefusedError: ``malformed``, ``bad-signature`` (not by the director of this hub), ``unknown-model``,
            ``not-an-approver``, ``wrong-device`` or ``request-expired``.
    """
    try:
        envelope = open_envelope(data, SAMPLE_REQUEST_TYPE, limit=MAX_SAMPLE_ENVELOPE_BYTES)
        request = read_sample_request(envelope.payload)
    except ProtocolError as error:
        raise RefusedError(MALFORMED, f"the request for samples: {error}") from error
    if len(envelope.signatures) > MAX_SIGNATURES:
        raise RefusedError(MALFORMED, f"the request for samples has more than {MAX_SIGNATURES} signatures")
    directors = _director_signers(envelope, targets)
    approver = _approver(envelope, targets, request.model, besides=directors)
    if device not in request.devices:
        raise RefusedError(WRONG_DEVICE, f"the request for samples is not for {device}")
    if now.timestamp() >= request.expires:
        expires = datetime.fromtimestamp(request.expires, UTC)
        raise RefusedError(
            REQUEST_EXPIRED, f"the request for samples expired at {expires:%Y-%m-%d %H:%M} UTC"
        )
    if request.created > now.timestamp() + CLOCK_SECONDS:
        raise RefusedError(MALFORMED, "the request for samples says that it was made in the future")
    return VerifiedSampleRequest(
        request=request, digest=sha256(envelope.payload).hexdigest(), approver=approver
    )


def _director_signers(envelope: Envelope, targets: Targets) -> frozenset[str]:
    try:
        role = targets.get_delegated_role(ROLE)
    except ValueError as error:
        raise RefusedError(BAD_SIGNATURE, f"the request for samples: {error}") from error
    signers = frozenset(keyid for keyid in role.keyids if _has_signed(envelope, targets.get_key(keyid)))
    if len(signers) < role.threshold:
        raise RefusedError(
            BAD_SIGNATURE,
            f"the request for samples is signed by {len(signers)} of {role.threshold} director's keys of this hub",
        )
    return signers


def _approver(envelope: Envelope, targets: Targets, model: str, *, besides: frozenset[str]) -> str:
    role = delegation(targets, model)
    for keyid in sorted(set(role.keyids) - besides):
        if _has_signed(envelope, targets.get_key(keyid)):
            return keyid
    raise RefusedError(
        NOT_AN_APPROVER, f"the request for samples is not signed by an approver of {model}: nobody may ask"
    )


def _has_signed(envelope: Envelope, key: Key) -> bool:
    signed = pae(envelope.payload_type, envelope.payload)
    for each in envelope.signatures:
        if each.keyid != key.keyid:
            continue
        try:
            key.verify_signature(Signature(each.keyid, each.sig.hex()), signed)
        except UnverifiedSignatureError:
            continue
        return True
    return False
