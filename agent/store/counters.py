"""Counters of the outbox' ledger, within the caller's transaction."""

import sqlite3


def count(connection: sqlite3.Connection, name: str, by: int = 1) -> int:
    """Add to a counter; returns its new value."""
    row = connection.execute(
        "INSERT INTO counters (name, value) VALUES (?1, ?2) "
        "ON CONFLICT (name) DO UPDATE SET value = value + ?2 RETURNING value",
        (name, by),
    ).fetchone()
    return int(row[0])


def counter(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def epoch(connection: sqlite3.Connection) -> str:
    """Of this database: new when it is new."""
    return str(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])
