"""Keep count of records that came under a key of another one, and tell of it in the audit log once a day and device."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from cloud_hub.audit.service import record
from cloud_hub.ingest.rows import Key
from cloud_hub.telemetry.models import TelemetryConflict

SECONDS_A_DAY = 86_400.0


def note_conflicts(session: Session, keys: Sequence[Key], now: float) -> None:
    """Called in line with the other writers, since it may append to the audit log."""
    for device, epoch, sequence in keys:
        row = session.get(TelemetryConflict, device)
        if row is None:
            row = TelemetryConflict(device=device, conflicts=0, audited=0.0)
            session.add(row)
        row.conflicts += 1
        row.epoch, row.sequence, row.newest = epoch, sequence, now
        if now - row.audited >= SECONDS_A_DAY:
            row.audited = now
            record(
                session,
                now=now,
                actor="ingest",
                action="telemetry-conflict",
                subject=device,
                epoch=epoch,
                sequence=sequence,
                conflicts=row.conflicts,
            )
