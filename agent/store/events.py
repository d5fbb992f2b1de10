"""What happened on this device, for the technician: newest first; bounded by :mod:`agent.store.history`."""

import sqlite3

from agent.protocol.telemetry import Event
from agent.store.database import Database


def insert_event(connection: sqlite3.Connection, event: Event) -> None:
    """Within the caller's transaction: add one."""
    connection.execute(
        "INSERT INTO events (time, severity, kind, text, model, release, deployment) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (event.time, event.severity, event.kind, event.text, event.model, event.release, event.deployment),
    )


class EventLog:
    """Reads events; they are written by :meth:`agent.store.outbox.Outbox.append`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, limit: int, *, model: str | None = None) -> list[Event]:
        """Up to ``limit`` events, newest first; of one model, or of all and the device itself."""

        def query(connection: sqlite3.Connection) -> list[Event]:
            rows = connection.execute(
                "SELECT time, severity, kind, text, model, release, deployment FROM events "
                "WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2",
                (model, limit),
            )
            return [
                Event(
                    time=time,
                    severity=severity,
                    kind=kind,
                    text=text,
                    model=name,
                    release=release,
                    deployment=deployment,
                )
                for time, severity, kind, text, name, release, deployment in rows
            ]

        return await self._database.read(query)
