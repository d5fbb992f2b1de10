"""The two documents that the online key signs: snapshot (which version of each role is current) and timestamp."""

from datetime import datetime, timedelta

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Timestamp

from cloud_hub.signing.documents import ISSUED_FIELD, SNAPSHOT_LIFE, TIMESTAMP_LIFE, file_name, stamp


def meta_file(version: int, data: bytes) -> MetaFile:
    """The entry of one role's file in the snapshot: version, length and SHA-256."""
    return MetaFile.from_data(version, data, ["sha256"])


def sign_snapshot(
    online: Signer, version: int, meta: dict[str, MetaFile], now: datetime, life: timedelta = SNAPSHOT_LIFE
) -> dict[str, bytes]:
    """A snapshot by file name; ``meta`` is ``<role>.json`` → entry."""
    snapshot = Metadata(Snapshot(version=version, expires=now + life, meta=meta))
    snapshot.sign(online)
    return {file_name(Snapshot.type, snapshot.signed): snapshot.to_bytes()}


def sign_timestamp(
    online: Signer,
    version: int,
    snapshot_version: int,
    snapshot: bytes,
    now: datetime,
    life: timedelta = TIMESTAMP_LIFE,
) -> dict[str, bytes]:
    """A timestamp by file name; it carries the hub's time, which devices without a good clock rely on."""
    timestamp = Metadata(
        Timestamp(
            version=version,
            expires=now + life,
            snapshot_meta=meta_file(snapshot_version, snapshot),
            unrecognized_fields={ISSUED_FIELD: stamp(now)},
        )
    )
    timestamp.sign(online)
    return {file_name(Timestamp.type, timestamp.signed): timestamp.to_bytes()}
