"""Bundles made by hand, so that a test can put anything into one."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from securesystemslib.signer import CryptoSigner, Signer

from agent.protocol.bundle import (
    LENGTH_BYTES,
    MAGIC,
    MAX_ENVELOPE_BYTES,
    BundleDevice,
    BundleFile,
    BundleIndex,
    BundleOrder,
)
from agent.protocol.codec import encode_json
from agent.protocol.envelope import BUNDLE_TYPE, pae, seal

Files = Mapping[tuple[str, str], bytes]
"""(kind, name) → bytes."""


def index_of(
    files: Files, *, devices: Sequence[str] = ("camera-1",), created: float = 1.0, expires: float = 4e9
) -> BundleIndex:
    """The index of these files, for these devices, each ordered release 1 of ``digits``."""
    order = BundleOrder(model="digits", release=1, deployment="d-1")
    return BundleIndex(
        hub="hub",
        created=created,
        expires=expires,
        created_by="olga",
        devices=tuple(BundleDevice(device=name, hardware_class="cpu", orders=(order,)) for name in devices),
        files=tuple(
            BundleFile(kind=kind, name=name, sha256=sha256(data).hexdigest(), size=len(data))  # type: ignore[arg-type]  # a test may name any kind
            for (kind, name), data in files.items()
        ),
    )


def envelope_of(index: BundleIndex, signer: Signer | None = None) -> bytes:
    """The index, signed by ``signer`` (a stranger where none is given)."""
    payload = encode_json(index)
    signature = (signer or CryptoSigner.generate_ed25519()).sign(pae(BUNDLE_TYPE, payload))
    raw = bytes.fromhex(signature.signature)
    return seal(BUNDLE_TYPE, payload, signature.keyid, raw, limit=MAX_ENVELOPE_BYTES)


def bundle_of(index: BundleIndex, files: Files, signer: Signer | None = None) -> bytes:
    """The whole file."""
    envelope = envelope_of(index, signer)
    return MAGIC + len(envelope).to_bytes(LENGTH_BYTES, "big") + envelope + b"".join(files.values())
