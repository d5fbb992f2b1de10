"""The director's document, checked (pure)."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Targets

from agent.protocol.ids import DIGEST_PATTERN, LARGEST_NUMBER, MANIFEST_FILENAME, is_name
from agent.protocol.limits import MAX_DIRECTOR_BYTES, MAX_MANIFEST_BYTES
from agent.protocol.state import Assignment
from agent.protocol.verification import ReleaseFile
from agent.trust.errors import BAD_SIGNATURE, EXPIRED, MALFORMED, ROLLBACK, WRONG_DEVICE, RefusedError
from agent.trust.marks import KeySet, MarkBook

ROLE = "director"
FILE = "director.json"
DEVICE_FIELD = "device"
ISSUED_FIELD = "issued"

_DIGEST = re.compile(DIGEST_PATTERN)
_RELEASE = re.compile(r"[1-9][0-9]{0,15}")
_PARTS = 4


@dataclass(frozen=True)
class Order:
    """One release that the director assigns; whether approvers signed it is another question."""

    path: str
    model: str
    release: int
    manifest: ReleaseFile
    assignment: Assignment


@dataclass(frozen=True)
class DirectorDocument:
    """A document that the director signed for this device; only :func:`check_director` makes one."""

    version: int
    keys: KeySet
    issued: float | None
    expires: float
    orders: tuple[Order, ...]


def mark_role(device: str) -> str:
    """The role name under which the version mark of a device's document is kept."""
    return f"{ROLE}:{device}"


def check_director(
    data: bytes, *, targets: Targets, device: str, now: datetime, marks: MarkBook, previous: bytes | None
) -> DirectorDocument:
    """Check a director's document against the top-level targets role that delegates to the director.

    Args:
        data: the document as it came.
        targets: verified top-level targets.
        device: this device's id.
        now: trusted time, UTC.
        marks: version marks; read only.
        previous: the last document that was taken, to tell a repeated one from another one of the same version.

    Raises:
        RefusedError: ``malformed``, ``bad-signature``, ``wrong-device``, ``rollback-attack`` or ``expired``.
    """
    document = _parse(data)
    try:
        targets.verify_delegate(ROLE, document.signed_bytes, document.signatures)
        keys = KeySet.of(targets, ROLE)
    except (RepositoryError, ValueError) as error:
        raise RefusedError(BAD_SIGNATURE, f"the director's document: {error}") from error
    signed = document.signed
    meant_for = signed.unrecognized_fields.get(DEVICE_FIELD)
    if meant_for != device:
        raise RefusedError(WRONG_DEVICE, f"the director's document is for {meant_for!r}, this is {device!r}")
    marks.check(mark_role(device), keys, signed.version)
    if previous != data:
        _check_repeated(document, previous, targets)
    if signed.is_expired(now):
        raise RefusedError(EXPIRED, f"the director's document expired at {signed.expires:%Y-%m-%d %H:%M} UTC")
    if signed.delegations is not None:
        raise RefusedError(MALFORMED, "the director's document delegates, which it may not")
    orders = tuple(_order(path, target) for path, target in sorted(signed.targets.items()))
    _check_one_a_model(orders)
    return DirectorDocument(signed.version, keys, issued(signed), signed.expires.timestamp(), orders)


def issued(signed: Targets) -> float | None:
    """When a document says it was signed, Unix seconds, and at most its expiry; None where it does not say."""
    return read_issued(signed.unrecognized_fields.get(ISSUED_FIELD), signed.expires)


def read_issued(value: object, expires: datetime) -> float | None:
    """Read an ``issued`` field (``2026-01-31T12:00:00Z``); a document can't be signed after it expired."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return min(moment, expires).timestamp()


def _parse(data: bytes) -> Metadata[Targets]:
    if len(data) > MAX_DIRECTOR_BYTES:
        raise RefusedError(
            MALFORMED,
            f"the director's document has {len(data)} bytes, at most {MAX_DIRECTOR_BYTES} are allowed",
        )
    try:
        document = Metadata[Targets].from_bytes(data)
        _ = document.signed_bytes
    except RepositoryError as error:
        raise RefusedError(MALFORMED, f"the director's document can't be read: {error}") from error
    if not isinstance(document.signed, Targets):
        raise RefusedError(
            MALFORMED, f"the director's document is {document.signed.type} metadata, not targets"
        )
    return document


def _check_repeated(document: Metadata[Targets], previous: bytes | None, targets: Targets) -> None:
    """What lies on the disk is evidence only if the director signed it: a damaged file must not accuse an honest hub."""
    if previous is None:
        return
    try:
        last = Metadata[Targets].from_bytes(previous)
        targets.verify_delegate(ROLE, last.signed_bytes, last.signatures)
    except (RepositoryError, ValueError):
        return  # the mark still stands; only the comparison of equal versions is lost
    same_version = last.signed.version == document.signed.version
    same_device = (
        last.signed.unrecognized_fields.get(DEVICE_FIELD) == document.signed.unrecognized_fields[DEVICE_FIELD]
    )
    if same_version and same_device and last.signed_bytes != document.signed_bytes:
        raise RefusedError(
            ROLLBACK, f"the director signed two different documents of version {last.signed.version}"
        )


def _order(path: str, target: TargetFile) -> Order:
    parts = path.split("/")
    well_formed = (
        len(parts) == _PARTS
        and parts[0] == "models"
        and is_name(parts[1])
        and _RELEASE.fullmatch(parts[2]) is not None
        and int(parts[2]) <= LARGEST_NUMBER
        and parts[3] == MANIFEST_FILENAME
    )
    if not well_formed:
        raise RefusedError(
            MALFORMED, f"the director's target {path!r} is not models/<model>/<release>/{MANIFEST_FILENAME}"
        )
    digest = target.hashes.get("sha256")
    if set(target.hashes) != {"sha256"} or digest is None or not _DIGEST.fullmatch(digest):
        raise RefusedError(
            MALFORMED, f"the director's target {path} must carry one SHA-256 and no other hash"
        )
    if not 0 < target.length <= MAX_MANIFEST_BYTES:
        raise RefusedError(
            MALFORMED,
            f"the director's target {path}: {target.length} bytes, allowed are 1-{MAX_MANIFEST_BYTES}",
        )
    try:
        # Not strict: numbers with a fraction are written as text, because the signed form (canonical JSON) has none.
        assignment = msgspec.convert(target.custom, Assignment, strict=False)
    except msgspec.ValidationError as error:
        raise RefusedError(MALFORMED, f"the director's target {path}: {error}") from error
    manifest = ReleaseFile(filename=MANIFEST_FILENAME, sha256=digest, size=target.length)
    return Order(path, parts[1], int(parts[2]), manifest, assignment)


def _check_one_a_model(orders: tuple[Order, ...]) -> None:
    models = [order.model for order in orders]
    twice = sorted({model for model in models if models.count(model) > 1})
    if twice:
        raise RefusedError(MALFORMED, f"the director's document assigns two releases of {', '.join(twice)}")
