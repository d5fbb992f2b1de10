"""The device's own history (windows with their verdicts, health, events) kept within a number of bytes and of days."""

import math
import sqlite3

from msgspec import Struct

DAY = 86_400.0
AT_ONCE = 1_000
"""Rows of one table that one pass lets go of for their age: a clock that is wrong for an hour must not take all."""
FREE_PAGES = 64
"""Pages that may lie unused in the file before it is made smaller: what is freed is mostly needed again at once."""
EARLIEST = 1_577_836_800.0
"""2020, Unix seconds. What was made before it was made by a clock that was not set yet: it is as old as its neighbours."""
_OLD = (
    "{time} < :before AND ({time} > :earliest OR id < (SELECT min(id) FROM {table} WHERE {time} >= :before))"
)
_TABLES = {"windows": "closed", "health": "time", "events": "time"}
"""Table → when its rows were made, Unix seconds. In the order of ids they are as old as they can be told to be."""

KEEP_RELEASES = 3
"""Of each model, whose states are kept however old they look: a clock that is wrong must not make every detector begin anew."""
KEEP_STATES = 1_024
_OLD_STATES = (
    "DELETE FROM drift_states WHERE updated < ? AND (model, release) NOT IN (SELECT model, release FROM "
    "(SELECT model, release, row_number() OVER (PARTITION BY model ORDER BY max(updated) DESC) AS place FROM drift_states "
    "GROUP BY model, release) WHERE place <= ?)"
)
_TOO_MANY_STATES = "DELETE FROM drift_states WHERE rowid IN (SELECT rowid FROM drift_states ORDER BY updated DESC LIMIT -1 OFFSET ?)"

_SIZES = {
    "windows": (
        "SELECT coalesce(sum(length(body) + length(reason)), 0) + 350 * count(*) + 130 * (SELECT count(*) FROM verdicts), count(*) "
        "FROM windows"
    ),
    "health": "SELECT 90 * count(*), count(*) FROM health",
    "events": "SELECT coalesce(sum(length(text)), 0) + 90 * count(*), count(*) FROM events",
}
"""Table → about how many bytes it takes in the file (a test compares), and its rows."""


class Keep(Struct, frozen=True, kw_only=True):
    """Bounds of the history."""

    bytes: int
    """Of the rows as the file holds them; predictions, samples and what waits for the hub have bounds of their own."""
    days: float


def trim(connection: sqlite3.Connection, keep: Keep, now: float) -> int:
    """Within the caller's transaction: let go of what is over the bounds, the oldest first; returns how many rows."""
    values = {"before": now - keep.days * DAY, "earliest": EARLIEST, "limit": AT_ONCE}
    gone = sum(
        _let_go(connection, table, _OLD.format(table=table, time=time), values)
        for table, time in _TABLES.items()
    )
    connection.execute(_OLD_STATES, (now - keep.days * DAY, KEEP_RELEASES))
    connection.execute(_TOO_MANY_STATES, (KEEP_STATES,))
    sizes = _sizes(connection)
    total = sum(size for _, size, _ in sizes)
    excess = total - keep.bytes
    if excess > 0:
        for table, _, rows in sizes:
            # A twentieth more, so that not every pass has something to do.
            share: dict[str, float | int] = {"limit": min(rows, math.ceil(rows * (excess / total + 0.05)))}
            gone += _let_go(connection, table, "true", share)
    _give_back(connection)
    return gone


def _let_go(connection: sqlite3.Connection, table: str, which: str, values: dict[str, float | int]) -> int:
    oldest = f"SELECT id FROM {table} WHERE {which} ORDER BY id LIMIT :limit"  # noqa: S608 - names from this module
    if table == "windows":
        connection.execute(f"DELETE FROM verdicts WHERE window IN ({oldest})", values)  # noqa: S608
    return connection.execute(f"DELETE FROM {table} WHERE id IN ({oldest})", values).rowcount  # noqa: S608


def _sizes(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """Table, about how many bytes it takes (windows with their verdicts), rows."""
    return [
        (table, int(size), int(rows))
        for table, query in _SIZES.items()
        for size, rows in connection.execute(query)
    ]


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _give_back(connection: sqlite3.Connection) -> None:
    for _ in range(_pragma(connection, "freelist_count") - FREE_PAGES):
        connection.execute(
            "PRAGMA incremental_vacuum(1)"
        )  # with more, the sqlite3 module still frees only one
