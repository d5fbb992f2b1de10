"""Store telemetry once, whatever comes twice, and say what is safe."""

import msgspec
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from agent.protocol.batch_codec import ReceivedBatch
from agent.protocol.telemetry import Record, TelemetryAck, TelemetryCounts, Window
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryRecord


def store_batch(session: Session, batch: ReceivedBatch, now: float) -> TelemetryAck:
    """Insert what is not here yet; the answer may be sent once the transaction is committed."""
    known = _known(session, batch)
    new = {record.sequence: record for record in batch.records if record.sequence not in known}
    for record in new.values():
        session.add(_row(batch, record, now))
        if isinstance(record.body, Window):
            session.add(_window_row(batch, record.sequence, record.body, now))
    session.flush()
    return TelemetryAck(
        epoch=batch.epoch,
        sequences=tuple(sorted({record.sequence for record in batch.records})),
        refused=batch.refused,
    )


def _known(session: Session, batch: ReceivedBatch) -> set[int]:
    wanted = [record.sequence for record in batch.records]
    query = select(TelemetryRecord.sequence).where(
        TelemetryRecord.device == batch.device,
        TelemetryRecord.epoch == batch.epoch,
        TelemetryRecord.sequence.in_(wanted),
    )
    return set(session.scalars(query))


def _row(batch: ReceivedBatch, record: Record, now: float) -> TelemetryRecord:
    return TelemetryRecord(
        device=batch.device,
        epoch=batch.epoch,
        sequence=record.sequence,
        kind=record.body.__struct_config__.tag,
        received=now,
        body=msgspec.json.encode(record.body),
    )


def _window_row(batch: ReceivedBatch, sequence: int, body: Window, now: float) -> DriftWindowRow:
    window = body.window
    return DriftWindowRow(
        device=batch.device,
        epoch=batch.epoch,
        sequence=sequence,
        model=window.model,
        release=window.release,
        artifact=window.artifact,
        opened=window.opened,
        closed=window.closed,
        received=now,
        rows=window.rows,
        level=window.verdict.level,
        window=msgspec.json.encode(window),
    )


def counts(session: Session, device: str | None = None) -> dict[str, tuple[TelemetryCounts, ...]]:
    """Device → its epochs with the records held of each kind."""
    query = select(
        TelemetryRecord.device, TelemetryRecord.epoch, TelemetryRecord.kind, func.count()
    ).group_by(TelemetryRecord.device, TelemetryRecord.epoch, TelemetryRecord.kind)
    if device is not None:
        query = query.where(TelemetryRecord.device == device)
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


def newest_windows(session: Session, since: float) -> list[DriftWindowRow]:
    """The newest window of every device and model release, of those received since ``since``."""
    keys = (DriftWindowRow.device, DriftWindowRow.model, DriftWindowRow.release)
    newest = (
        select(*keys, func.max(DriftWindowRow.closed)).where(DriftWindowRow.received >= since).group_by(*keys)
    )
    query = select(DriftWindowRow).where(tuple_(*keys, DriftWindowRow.closed).in_(newest))
    rows = {(row.device, row.model, row.release): row for row in session.scalars(query)}
    return [rows[key] for key in sorted(rows)]
