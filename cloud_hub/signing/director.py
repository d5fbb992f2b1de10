"""The director's document: what one device is to run, signed by the hub's director key."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, TargetFile, Targets

from agent.protocol.bundle import MAX_ENVELOPE_BYTES
from agent.protocol.envelope import (
    BUNDLE_TYPE,
    SAMPLE_REQUEST_TYPE,
    EnvelopeSignature,
    pae,
    seal,
    seal_all,
)
from agent.protocol.ids import is_name
from agent.protocol.limits import MAX_DIRECTOR_BYTES
from agent.protocol.samples import MAX_SAMPLE_ENVELOPE_BYTES
from agent.protocol.state import Assignment
from cloud_hub.signing.documents import ISSUED_FIELD, stamp, utc_now
from cloud_hub.signing.errors import SigningError

DEVICE_FIELD = "device"
DIRECTOR_LIFE = timedelta(days=30)
"""A document that is older is no order any more; the hub signs a new version well before."""


class Director:
    """Signs one document a device; the caller counts versions, per device, from 1."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def keyid(self) -> str:
        """Of the key that signs now."""
        return self._signer.public_key.keyid

    def sign(
        self,
        device: str,
        version: int,
        assignments: Mapping[str, tuple[int, str, Assignment]],
        expires: datetime,
        *,
        issued: datetime | None = None,
    ) -> str:
        """The document as JSON text.

        Args:
            device: the only device that takes it.
            version: must grow by each change; a device refuses an older one.
            assignments: target path of a release's manifest → (length in bytes, SHA-256 in hex, order).
            expires: UTC; after it the device keeps what it has and takes nothing new from this document.
            issued: the hub's time, now when it is not given.

        Raises:
            SigningError: the device id breaks the rule of names, or the document would be too large to be sent.
        """
        if not is_name(device):
            raise SigningError(f"device {device!r}: not a device id")
        targets = {
            path: TargetFile(length, {"sha256": digest}, path, {"custom": _custom(order)})
            for path, (length, digest, order) in assignments.items()
        }
        fields = {DEVICE_FIELD: device, ISSUED_FIELD: stamp(issued or utc_now())}
        document = Metadata(
            Targets(version=version, expires=expires, targets=targets, unrecognized_fields=fields)
        )
        document.sign(self._signer)
        data = document.to_bytes()
        if len(data) > MAX_DIRECTOR_BYTES:
            raise SigningError(
                f"director's document of {device}: {len(data)} bytes, at most {MAX_DIRECTOR_BYTES} are allowed"
            )
        return data.decode()

    def seal_bundle(self, index: bytes) -> bytes:
        """The envelope of a bundle: its index, as the bytes that were signed.

        Raises:
            MessageTooLargeError: over the limit of an envelope.
        """
        signature = self._signer.sign(pae(BUNDLE_TYPE, index))
        raw = bytes.fromhex(signature.signature)
        return seal(BUNDLE_TYPE, index, signature.keyid, raw, limit=MAX_ENVELOPE_BYTES)

    def seal_sample_request(self, payload: bytes, approver: str, approval: bytes) -> bytes:
        """The envelope of a request for samples: signed by an approver (its key id and signature) and by the director.

        Raises:
            MessageTooLargeError: over the limit of an envelope.
        """
        own = self._signer.sign(pae(SAMPLE_REQUEST_TYPE, payload))
        signatures = (
            EnvelopeSignature(keyid=approver, sig=approval),
            EnvelopeSignature(keyid=own.keyid, sig=bytes.fromhex(own.signature)),
        )
        return seal_all(SAMPLE_REQUEST_TYPE, payload, signatures, limit=MAX_SAMPLE_ENVELOPE_BYTES)


def _custom(order: Assignment) -> object:
    """``order`` for a signed document: canonical JSON has no fractions, so they are written as text."""
    return _without_fractions(msgspec.to_builtins(order))


def _without_fractions(value: object) -> object:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _without_fractions(each) for key, each in value.items()}
    return value
