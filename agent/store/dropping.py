"""Records that the hub never gets, within the caller's transaction: dropped for room, or set aside; each is counted."""

import sqlite3
from collections.abc import Iterable

from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.store.counters import count

KEEP_QUARANTINED = 16


def drop(connection: sqlite3.Connection, excess: int, condition: str, values: tuple[int, ...]) -> None:
    """Drop records, the oldest first, until ``excess`` bytes are gone."""
    doomed: list[tuple[int, str, int]] = []
    query = f"SELECT sequence, kind, size FROM outbox WHERE {condition} ORDER BY priority, sequence"  # noqa: S608
    for row in connection.execute(query, values) if excess > 0 else ():
        doomed.append(row)
        excess -= row[2]
        if excess <= 0:
            break
    for sequence, kind, size in doomed:
        connection.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))
        count(connection, f"dropped:{kind}")
        count(connection, "pending_bytes", -size)


def set_aside(connection: sqlite3.Connection, sequences: Iterable[int], reason: str, words: str) -> None:
    """Move pending records that can never be sent aside, and count them."""
    for sequence in sequences:
        row = connection.execute(
            "DELETE FROM outbox WHERE sequence = ? RETURNING kind, size, recorded, body", (sequence,)
        ).fetchone()
        if row is None:
            continue
        kind, size, recorded, body = row
        count(connection, f"dropped:{reason}")
        count(connection, "pending_bytes", -size)
        keep_for_a_person(connection, sequence, kind, words, recorded, body)


def keep_for_a_person(
    connection: sqlite3.Connection, sequence: int, kind: str, reason: str, recorded: float, body: bytes
) -> None:
    """Keep the newest quarantined records for a person: a few, and of each what one message could hold."""
    connection.execute(
        "INSERT INTO quarantine (sequence, kind, reason, size, recorded, body) VALUES (?, ?, ?, ?, ?, ?)",
        (sequence, kind, reason, len(body), recorded, body[:MAX_MESSAGE_BYTES]),
    )
    count(connection, "quarantined")
    connection.execute(
        "DELETE FROM quarantine WHERE sequence NOT IN (SELECT sequence FROM quarantine ORDER BY sequence DESC LIMIT ?)",
        (KEEP_QUARANTINED,),
    )
