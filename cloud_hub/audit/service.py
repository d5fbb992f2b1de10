"""Append to the audit log, in the transaction of the deed itself; read it back."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud_hub.audit.chain import GENESIS, AuditEntry, seal
from cloud_hub.audit.models import AuditRow


def record(session: Session, *, now: float, actor: str, action: str, subject: str, **details: object) -> None:
    """Append one entry; called on the writer thread, so that the chain has one end."""
    last = session.scalar(select(AuditRow).order_by(AuditRow.sequence.desc()).limit(1))
    entry = seal(
        sequence=1 if last is None else last.sequence + 1,
        time=now,
        actor=actor,
        action=action,
        subject=subject,
        details={key: str(value) for key, value in details.items()},
        previous=GENESIS if last is None else last.sha256,
    )
    values = msgspec.structs.asdict(entry) | {"details": msgspec.json.encode(entry.details).decode()}
    session.add(AuditRow(**values))
    session.flush()


def entries(session: Session, *, after: int = 0, limit: int | None = None) -> list[AuditEntry]:
    """Entries in order, from sequence ``after`` + 1 on."""
    query = select(AuditRow).where(AuditRow.sequence > after).order_by(AuditRow.sequence).limit(limit)
    return [_entry(row) for row in session.scalars(query)]


def newest(session: Session, limit: int) -> list[AuditEntry]:
    """The newest entries, newest first."""
    query = select(AuditRow).order_by(AuditRow.sequence.desc()).limit(limit)
    return [_entry(row) for row in session.scalars(query)]


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        sequence=row.sequence,
        time=row.time,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        details=msgspec.json.decode(row.details, type=dict[str, str]),
        previous=row.previous,
        sha256=row.sha256,
    )
