"""What every signed document shares: names of roles and fields, lifetimes, reading and writing."""

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from securesystemslib.exceptions import FormatError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from cloud_hub.signing.errors import RepositoryStateError

DIRECTOR = "director"
"""Role of the director's documents: delegated without paths, and not in the snapshot."""

MODEL_FIELD = "model"
"""Field of a model's role: its name, so that one role's document can't stand in for another's."""

ISSUED_FIELD = "issued"
"""Field of timestamp and of the director's documents: when it was signed, ``2026-01-31T12:00:00Z``."""

ROOT_LIFE = timedelta(days=365)
TARGETS_LIFE = timedelta(days=365)
ROLE_LIFE = timedelta(days=90)
"""The longest life of a model's role: it bounds for how long a stolen hub can list withdrawn releases again."""
SNAPSHOT_LIFE = timedelta(days=14)
TIMESTAMP_LIFE = timedelta(days=1)

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


def read(data: bytes, kind: type[S], name: str) -> Metadata[S]:
    """Parse metadata of the hub's own store; signatures are not checked here.

    Raises:
        RepositoryStateError: it can't be read, or is of another type.
    """
    try:
        document = Metadata[S].from_bytes(data)
    except (RepositoryError, FormatError) as error:
        raise RepositoryStateError(f"{name}: not TUF metadata ({error})") from error
    if not isinstance(document.signed, kind):
        raise RepositoryStateError(f"{name}: {document.signed.type} metadata, expected {kind.type}")
    return document


def utc_now() -> datetime:
    """The hub's clock."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """The form that TUF gives to times: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def file_name(role: str, signed: Signed) -> str:
    """The name that consistent snapshots give to a version."""
    return f"{role}.json" if role == Timestamp.type else f"{signed.version}.{role}.json"
