"""A bundle's signed index, checked (pure).

It grants nothing: what may be installed is decided by the metadata and the director's document in the bundle, which are
checked like any others. The signature keeps what nobody made from being read any further, and what it says to a
technician true.
"""

from datetime import UTC, datetime

from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature
from tuf.api.metadata import Targets

from agent.protocol.bundle import MAX_ENVELOPE_BYTES, read_index
from agent.protocol.envelope import BUNDLE_TYPE, Envelope, open_envelope, pae
from agent.protocol.errors import ProtocolError
from agent.trust.director import ROLE
from agent.trust.errors import BAD_SIGNATURE, EXPIRED, MALFORMED, WRONG_DEVICE, RefusedError


def check_bundle(data: bytes, *, targets: Targets, device: str, now: datetime) -> None:
    """Check a bundle's envelope against the top-level targets role that delegates to the director.

    Args:
        data: the envelope.
        targets: verified top-level targets.
        device: this device's id.
        now: trusted time, UTC.

    Raises:
        RefusedError: ``malformed``, ``bad-signature``, ``wrong-device`` or ``expired``.
    """
    try:
        envelope = open_envelope(data, BUNDLE_TYPE, limit=MAX_ENVELOPE_BYTES)
        index = read_index(data)
    except ProtocolError as error:
        raise RefusedError(MALFORMED, f"the bundle's index: {error}") from error
    _check_signatures(envelope, targets)
    if index.device(device) is None:
        raise RefusedError(WRONG_DEVICE, f"the bundle is not for {device}")
    expires = datetime.fromtimestamp(index.expires, UTC)
    if now >= expires:
        raise RefusedError(EXPIRED, f"the bundle expired at {expires:%Y-%m-%d %H:%M} UTC")


def _check_signatures(envelope: Envelope, targets: Targets) -> None:
    try:
        role = targets.get_delegated_role(ROLE)
    except ValueError as error:
        raise RefusedError(BAD_SIGNATURE, f"the bundle's index: {error}") from error
    signed = pae(envelope.payload_type, envelope.payload)
    signers = set()
    for each in envelope.signatures:
        if each.keyid not in role.keyids:
            continue
        try:
            targets.get_key(each.keyid).verify_signature(Signature(each.keyid, each.sig.hex()), signed)
        except UnverifiedSignatureError:
            continue
        signers.add(each.keyid)
    if len(signers) < role.threshold:
        raise RefusedError(
            BAD_SIGNATURE,
            f"the bundle's index is signed by {len(signers)} of {role.threshold} director's keys of this hub",
        )
