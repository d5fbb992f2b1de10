"""Closed drift windows, their verdicts, and where a runner's detectors stand: whole for programs, one row a signal for SQL."""

import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.control import DriftMark
from agent.protocol.drift import DriftWindow, SignalVerdict, Verdict
from agent.protocol.errors import ProtocolError
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.protocol.runner import WindowClosed
from agent.store.database import Database
from agent.store.open_windows import forget_open

log = logging.getLogger(__name__)

WHOLE = ""
"""The slice of ``drift_states`` that is none."""


def insert_closed(connection: sqlite3.Connection, closed: WindowClosed, now: float) -> None:
    """Within the caller's transaction: add a window, its signals' verdicts, and what goes on after it."""
    window = closed.window
    forget_open(connection, window)
    _insert_verdicts(connection, _insert_window(connection, window), closed.signals)
    if closed.drift_state:
        connection.execute(
            "INSERT INTO drift_states (model, release, slice, updated, state) VALUES (?1, ?2, ?3, ?4, ?5) "
            "ON CONFLICT (model, release, slice) DO UPDATE SET updated = ?4, state = ?5",
            (window.model, window.release, window.slice or WHOLE, now, closed.drift_state),
        )


def _insert_window(connection: sqlite3.Connection, window: DriftWindow) -> int:
    verdict, alarm, estimate = window.verdict, window.alarm, window.estimate
    columns: dict[str, object] = {
        "model": window.model,
        "release": window.release,
        "deployment": window.deployment,
        "artifact": window.artifact,
        "opened": window.opened,
        "closed": window.closed,
        "rows": window.rows,
        "level": verdict.level,
        "reason": verdict.reason,
        "body": encode_json(window, limit=MAX_FRAME_BYTES),
        "slice": window.slice,
        "incomplete": int(window.incomplete),
        "moved_most": _moved_most(verdict),
        "alarm": alarm and alarm.level,
        "alarm_since": alarm and alarm.since,
        "changed": alarm and (", ".join(alarm.changed) or None),
        "accuracy": estimate and estimate.accuracy,
        "accuracy_low": estimate and estimate.low,
        "accuracy_high": estimate and estimate.high,
        "estimate_off": window.estimate_off,
    }
    places = ", ".join(f":{name}" for name in columns)
    query = f"INSERT INTO windows ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - the names stand above
    return connection.execute(query, columns).lastrowid or 0


def _moved_most(verdict: Verdict) -> str | None:
    """For a person: ``brightness (psi 0.31), contrast (psi 0.12)``."""
    return ", ".join(f"{one.signal} ({one.statistic} {one.value:g})" for one in verdict.moved_most) or None


def _insert_verdicts(
    connection: sqlite3.Connection, window: int, signals: Mapping[str, SignalVerdict]
) -> None:
    connection.executemany(
        "INSERT INTO verdicts (window, signal, level, rows, psi, js, ks, wasserstein, p_value, test, missing_rate, "
        "not_finite_rate, outside_rate, constant) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *(window, name, one.level, one.rows, one.psi, one.js, one.ks, one.wasserstein, one.p_value),
                *(one.test, one.missing_rate, one.not_finite_rate, one.outside_rate, int(one.constant)),
            )
            for name, one in signals.items()
        ],
    )


class WindowLog:
    """Reads windows; they are written by :meth:`agent.store.outbox.Outbox.append`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unreadable: set[int] = set()
        self.unreadable: Callable[[str], None] = lambda _: None
        """Told ``window-unreadable`` once for each window that this version of the agent can't read."""

    async def latest(self, model: str | None = None) -> list[DriftWindow]:
        """The newest whole window (of no slice) of each model, or of one; by model."""
        return await self._windows(
            "SELECT id, body FROM windows WHERE id IN (SELECT max(id) FROM windows WHERE slice IS NULL GROUP BY model) "
            "AND (?1 IS NULL OR model = ?1) ORDER BY model",
            (model,),
        )

    async def slices(self, model: str) -> list[DriftWindow]:
        """The newest window of each slice of a model, the whole first."""
        return await self._windows(
            "SELECT id, body FROM windows WHERE id IN (SELECT max(id) FROM windows WHERE model = ? GROUP BY slice) "
            "ORDER BY slice",
            (model,),
        )

    async def history(self, model: str | None, limit: int) -> list[DriftWindow]:
        """Up to ``limit`` windows of one model, or of all; slices too; newest first."""
        return await self._windows(
            "SELECT id, body FROM windows WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2",
            (model, limit),
        )

    async def statistics(self, model: str) -> dict[str, SignalVerdict]:
        """By signal: the statistics of the newest whole window of a model."""
        return await self._database.read(lambda connection: _statistics(connection, model))

    async def timeline(self, model: str, limit: int) -> list[DriftMark]:
        """Up to ``limit`` of the newest whole windows of a model as marks, oldest first."""
        return await self._database.read(lambda connection: _timeline(connection, model, limit))

    async def _windows(self, query: str, parameters: tuple[str | int | None, ...]) -> list[DriftWindow]:
        windows, unreadable = await self._database.read(
            lambda connection: _decode(connection.execute(query, parameters))
        )
        for row in sorted(unreadable - self._unreadable):
            self._unreadable.add(row)
            self.unreadable("window-unreadable")
            log.warning("a stored window can't be read, and is left out", extra={"window": row})
        return windows

    async def every_drift_state(self) -> list[tuple[str, int, str, bytes]]:
        """Model, release, slice ("" is the whole) and state, the oldest first."""
        return await self._database.read(
            lambda connection: connection.execute(
                "SELECT model, release, slice, state FROM drift_states ORDER BY updated"
            ).fetchall()
        )


def _decode(rows: Iterable[tuple[int, bytes]]) -> tuple[list[DriftWindow], set[int]]:
    """Windows, and ids of those that can't be read: of another version of the agent, or damaged."""
    windows: list[DriftWindow] = []
    unreadable: set[int] = set()
    for row, body in rows:
        try:
            windows.append(decode_json(body, DriftWindow, limit=MAX_FRAME_BYTES))
        except ProtocolError:
            unreadable.add(row)
    return windows, unreadable


def _statistics(connection: sqlite3.Connection, model: str) -> dict[str, SignalVerdict]:
    """A window that an agent before schema 3 wrote lacks some: they are 0."""
    found = connection.execute(
        "SELECT signal, level, rows, psi, js, ks, wasserstein, p_value, test, missing_rate, not_finite_rate, outside_rate, "
        "constant FROM verdicts WHERE window = (SELECT max(id) FROM windows WHERE model = ? AND slice IS NULL)",
        (model,),
    )
    return {
        signal: SignalVerdict(
            level=level,
            rows=rows,
            psi=psi,
            js=js or 0.0,
            ks=ks,
            wasserstein=wasserstein or 0.0,
            p_value=p_value,
            test=test,
            missing_rate=missing,
            not_finite_rate=not_finite or 0.0,
            outside_rate=outside,
            constant=bool(constant),
        )
        for signal, level, rows, psi, js, ks, wasserstein, p_value, test, missing, not_finite, outside, constant in found
    }


def _timeline(connection: sqlite3.Connection, model: str, limit: int) -> list[DriftMark]:
    found = connection.execute(
        "SELECT closed, level, rows, release, coalesce(incomplete, 0), alarm FROM windows "
        "WHERE model = ? AND slice IS NULL ORDER BY id DESC LIMIT ?",
        (model, limit),
    ).fetchall()
    return [
        DriftMark(
            closed=closed, level=level, rows=rows, release=release, incomplete=bool(incomplete), alarm=alarm
        )
        for closed, level, rows, release, incomplete, alarm in reversed(found)
    ]
