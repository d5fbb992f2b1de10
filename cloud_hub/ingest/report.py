"""What a process that ingests tells of itself, where the API finds it."""

import msgspec
from msgspec import Struct
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from agent.protocol.ids import Count, UnixTime
from cloud_hub.bridge.counters import BridgeReport
from cloud_hub.ingest.models import IngestProcess

FORGOTTEN_AFTER_SECONDS = 7 * 24 * 3600.0


class IngestReport(Struct, frozen=True, kw_only=True):
    """Since the process started."""

    batches: Count
    """Taken, and acknowledged."""
    commits: Count
    records: dict[str, Count]
    """``new``, ``duplicate`` (was here already), ``refused`` (breaks a rule), ``conflict`` (another one has its key)."""
    bridge: BridgeReport
    """Messages refused, by kind; ``overflow`` and ``not-stored`` ones come again."""


class IngestView(Struct, frozen=True, kw_only=True):
    """A process that ingests."""

    name: str
    started: UnixTime
    seen: UnixTime
    """When it last said so; one that is well does every few seconds."""
    report: IngestReport


def write_report(session: Session, name: str, report: IngestReport, *, started: float, now: float) -> None:
    """Put down the newest one, and forget processes that have been silent for a week."""
    session.merge(IngestProcess(name=name, started=started, seen=now, report=msgspec.json.encode(report)))
    session.execute(delete(IngestProcess).where(IngestProcess.seen < now - FORGOTTEN_AFTER_SECONDS))


def processes(session: Session) -> list[IngestView]:
    """Those that have said something within a week, by name."""
    return [
        IngestView(
            name=row.name,
            started=row.started,
            seen=row.seen,
            report=msgspec.json.decode(row.report, type=IngestReport),
        )
        for row in session.scalars(select(IngestProcess).order_by(IngestProcess.name))
    ]
