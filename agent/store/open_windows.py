"""Windows that are still open: what would be left of them if the device died now."""

import sqlite3
from collections.abc import Iterable

from agent.protocol.codec import decode_msgpack, encode_msgpack
from agent.protocol.drift import DriftWindow
from agent.protocol.errors import ProtocolError
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.protocol.runner import WindowClosed
from agent.store.database import Database

OpenKey = tuple[str, int, str, str, float]
"""Model, release, deployment, slice ("" is the whole), when it was opened: the next one may be open before one is recorded."""

_FORGET = (
    "DELETE FROM open_windows WHERE model = ? AND release = ? AND deployment = ? AND slice = ? AND opened = ?"
)


class OpenWindowStore:
    """Keeps what was last seen of each open window. One that closes is forgotten by :func:`forget_open`, in its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, so_far: Iterable[WindowClosed], gone: Iterable[OpenKey] = ()) -> None:
        """Replace what is kept of these, and forget what is ``gone``.

        Raises:
            DamagedError: the database is broken.
            sqlite3.Error: the disk is full; nothing was replaced.
        """
        rows = [
            (*open_key(each.window), each.window.rows, encode_msgpack(each, limit=MAX_FRAME_BYTES))
            for each in so_far
        ]
        await self._database.write(lambda connection: _keep(connection, rows, tuple(gone)))


def _keep(
    connection: sqlite3.Connection,
    rows: list[tuple[str, int, str, str, float, int, bytes]],
    gone: tuple[OpenKey, ...],
) -> None:
    connection.executemany(_FORGET, gone)
    connection.executemany(
        "INSERT OR REPLACE INTO open_windows (model, release, deployment, slice, opened, rows, body) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def forget_open(connection: sqlite3.Connection, window: DriftWindow) -> None:
    """Within the caller's transaction: ``window`` is closed."""
    connection.execute(_FORGET, open_key(window))


def take_open(connection: sqlite3.Connection) -> list[WindowClosed]:
    """Within the caller's transaction: what was open when the agent was last killed, each once."""
    taken: list[WindowClosed] = []
    for (body,) in connection.execute("DELETE FROM open_windows RETURNING body").fetchall():
        try:
            taken.append(decode_msgpack(body, WindowClosed, limit=MAX_FRAME_BYTES))
        except ProtocolError:  # of another version of the agent
            continue
    return taken


def open_key(window: DriftWindow) -> OpenKey:
    return window.model, window.release, window.deployment, window.slice or "", window.opened
