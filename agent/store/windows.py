"""Closed drift windows and their verdicts: bounded, whole for programs, one row a signal for SQL."""

import sqlite3
from collections.abc import Mapping

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.drift import DriftWindow, SignalVerdict
from agent.store.database import Database

KEEP_WINDOWS = 5_000


def insert_window(
    connection: sqlite3.Connection, window: DriftWindow, signals: Mapping[str, SignalVerdict] | None = None
) -> None:
    """Within the caller's transaction: add one, let go of the oldest beyond :data:`KEEP_WINDOWS`."""
    verdict = window.verdict
    cursor = connection.execute(
        "INSERT INTO windows (model, release, deployment, artifact, opened, closed, rows, level, reason, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            window.model,
            window.release,
            window.deployment,
            window.artifact,
            window.opened,
            window.closed,
            window.rows,
            verdict.level,
            verdict.reason,
            encode_json(window),
        ),
    )
    identity = cursor.lastrowid or 0
    connection.executemany(
        "INSERT INTO verdicts (window, signal, level, rows, psi, ks, p_value, test, missing_rate, outside_rate) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                identity,
                name,
                one.level,
                one.rows,
                one.psi,
                one.ks,
                one.p_value,
                one.test,
                one.missing_rate,
                one.outside_rate,
            )
            for name, one in (signals or {}).items()
        ],
    )
    oldest = identity - KEEP_WINDOWS
    connection.execute("DELETE FROM verdicts WHERE window <= ?", (oldest,))
    connection.execute("DELETE FROM windows WHERE id <= ?", (oldest,))


class WindowLog:
    """Reads windows; they are written by :meth:`agent.store.outbox.Outbox.append`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest(self, model: str | None = None) -> list[DriftWindow]:
        """The newest window of each model, or of one; by model."""
        return await self._database.read(
            lambda connection: _windows(
                connection,
                "SELECT body FROM windows WHERE id IN (SELECT max(id) FROM windows GROUP BY model) "
                "AND (?1 IS NULL OR model = ?1) ORDER BY model",
                (model,),
            )
        )

    async def history(self, model: str | None, limit: int) -> list[DriftWindow]:
        """Up to ``limit`` windows of one model, or of all; newest first."""
        return await self._database.read(
            lambda connection: _windows(
                connection,
                "SELECT body FROM windows WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2",
                (model, limit),
            )
        )


def _windows(
    connection: sqlite3.Connection, query: str, parameters: tuple[str | int | None, ...]
) -> list[DriftWindow]:
    return [decode_json(body, DriftWindow) for (body,) in connection.execute(query, parameters)]
