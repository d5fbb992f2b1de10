"""Signed envelopes (DSSE, the dead simple signing envelope): the payload as the bytes that were signed, and their type.

The signature is over :func:`pae`, which binds the type: what was signed as one thing can't be taken for another. The
payload is carried as it was signed, so nobody has to agree on a canonical form.
"""

from msgspec import Struct

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.errors import MalformedMessageError

BUNDLE_TYPE = "application/vnd.edgeward.bundle+json"
RECEIPT_TYPE = "application/vnd.edgeward.receipt+json"
SAMPLE_REQUEST_TYPE = "application/vnd.edgeward.sample-request+json"


class EnvelopeSignature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keyid: str
    """Id of a key in the repository's metadata (a bundle), or SHA-256 of the certificate's DER bytes (a receipt)."""
    sig: bytes


class Envelope(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """``bytes`` are base64 in JSON."""

    payload: bytes
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, keyid: str, signature: bytes, *, limit: int) -> bytes:
    """The envelope as JSON; raises MessageTooLargeError over ``limit`` bytes."""
    return seal_all(payload_type, payload, (EnvelopeSignature(keyid=keyid, sig=signature),), limit=limit)


def seal_all(
    payload_type: str, payload: bytes, signatures: tuple[EnvelopeSignature, ...], *, limit: int
) -> bytes:
    """As :func:`seal`, with several signatures over the same bytes."""
    return encode_json(
        Envelope(payload=payload, payload_type=payload_type, signatures=signatures), limit=limit
    )


def open_envelope(data: bytes, payload_type: str, *, limit: int) -> Envelope:
    """Decode an envelope of ``payload_type``; its signatures are not checked here.

    Raises:
        MessageTooLargeError: over ``limit`` bytes.
        MalformedMessageError: not an envelope, or of another type.
    """
    envelope = decode_json(data, Envelope, limit=limit)
    if envelope.payload_type != payload_type:
        raise MalformedMessageError(f"Envelope: {envelope.payload_type[:80]!r} instead of {payload_type!r}")
    return envelope
