"""The hash chain, pure: anyone with the exported lines can check it."""

import hashlib
from collections.abc import Iterable

import msgspec
from msgspec import Struct

GENESIS = "0" * 64
_encode = msgspec.json.Encoder(order="deterministic").encode


class AuditEntry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an export."""

    sequence: int
    time: float
    actor: str
    action: str
    subject: str
    details: dict[str, str]
    previous: str
    """``sha256`` of the entry before; of the first one: 64 zeros."""
    sha256: str


class ChainReport(Struct, frozen=True, kw_only=True):
    """What verification found; ``problem`` None means every entry stands as it was written."""

    entries: int
    head: str
    problem: str | None


def seal(
    *,
    sequence: int,
    time: float,
    actor: str,
    action: str,
    subject: str,
    details: dict[str, str],
    previous: str,
) -> AuditEntry:
    """The entry with its hash: SHA-256 over ``previous`` and the canonical JSON (sorted keys) of the rest."""
    body = {
        "sequence": sequence,
        "time": time,
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": details,
    }
    digest = hashlib.sha256(previous.encode() + _encode(body)).hexdigest()
    return AuditEntry(
        sequence=sequence,
        time=time,
        actor=actor,
        action=action,
        subject=subject,
        details=details,
        previous=previous,
        sha256=digest,
    )


def export_line(entry: AuditEntry) -> bytes:
    """One line of JSON without its line end."""
    return _encode(entry)


def verify(lines: Iterable[bytes]) -> ChainReport:
    """Check an export from its first entry on; stops at the first problem and names its line.

    A log that was cut at its end still verifies: compare ``head`` and ``entries`` with a copy kept elsewhere.
    """
    head, count = GENESIS, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = _problem(line, count + 1, head)
        if isinstance(problem, str):
            return ChainReport(entries=count, head=head, problem=f"line {number}: {problem}")
        head, count = problem.sha256, count + 1
    return ChainReport(entries=count, head=head, problem=None)


def _problem(line: bytes, sequence: int, previous: str) -> AuditEntry | str:
    try:
        entry = msgspec.json.decode(line, type=AuditEntry)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"not an audit entry: {error}"
    if entry.sequence != sequence:
        return f"entry {entry.sequence} stands where entry {sequence} belongs: one is missing, twice or moved"
    if entry.previous != previous:
        return f"entry {sequence} does not follow the entry before it"
    expected = seal(
        sequence=entry.sequence,
        time=entry.time,
        actor=entry.actor,
        action=entry.action,
        subject=entry.subject,
        details=entry.details,
        previous=previous,
    )
    if expected.sha256 != entry.sha256:
        return f"entry {sequence} was changed after it was written"
    return entry
