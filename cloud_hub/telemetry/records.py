"""Stored records of one device as they came: its health, its events."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.telemetry import Event, Health
from cloud_hub.telemetry.bodies import decode_body
from cloud_hub.telemetry.models import TelemetryRecord

MOST_HEALTH = 5_000


def health_of(session: Session, device: str, since: float) -> list[Health]:
    """Health records of the time since ``since`` (Unix seconds, the device's clock), oldest first; of many, the newest."""
    found = [
        each for each in _newest(session, device, "health", MOST_HEALTH, since) if isinstance(each, Health)
    ]
    return sorted((each for each in found if each.time >= since), key=lambda each: each.time)


def events_of(session: Session, device: str, limit: int) -> list[Event]:
    """The newest ``limit`` events, newest first."""
    found = [each for each in _newest(session, device, "event", limit, 0.0) if isinstance(each, Event)]
    return sorted(found, key=lambda each: -each.time)


def _newest(session: Session, device: str, kind: str, limit: int, since: float) -> list[object]:
    row = TelemetryRecord
    query = select(row.body).where(
        row.device == device, row.kind == kind, row.received >= since, row.body.is_not(None)
    )
    bodies = session.scalars(query.order_by(row.received.desc(), row.sequence.desc()).limit(limit))
    return [decode_body(body) for body in bodies if body is not None]
