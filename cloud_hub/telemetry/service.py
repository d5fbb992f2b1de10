"""Read what :mod:`cloud_hub.ingest` has stored."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.telemetry.models import TelemetryTally


def counts(session: Session, device: str | None = None) -> dict[str, tuple[TelemetryCounts, ...]]:
    """Device → its epochs with the records stored of each kind, also of those that retention has taken away since."""
    query = select(TelemetryTally.device, TelemetryTally.epoch, TelemetryTally.kind, TelemetryTally.records)
    if device is not None:
        query = query.where(TelemetryTally.device == device)
    kinds: dict[str, dict[str, dict[str, int]]] = {}
    for name, epoch, kind, count in session.execute(query):
        kinds.setdefault(name, {}).setdefault(epoch, {})[kind] = count
    return {
        name: tuple(
            TelemetryCounts(epoch=epoch, records=sum(by_kind.values()), by_kind=by_kind)
            for epoch, by_kind in sorted(epochs.items())
        )
        for name, epochs in sorted(kinds.items())
    }
