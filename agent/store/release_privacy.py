"""What releases ask for of their counts, for the records that come without it: labels of a day, events."""

import sqlite3

from agent.protocol.drift import CountPrivacy
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Accuracy, Body, Event, Window

KEEP = 256
"""Releases, beside those of which there are labels."""


def note_privacy(connection: sqlite3.Connection, model: str, release: int, asked: CountPrivacy) -> None:
    """Within the caller's transaction: a release's signed policy; written once."""
    written = connection.execute(
        "INSERT INTO release_privacy (model, release, mechanism, minimum, epsilon) VALUES (?1, ?2, ?3, ?4, ?5) "
        "ON CONFLICT (model, release) DO UPDATE SET mechanism = ?3, minimum = ?4, epsilon = ?5 "
        "WHERE (mechanism, minimum, epsilon) <> (?3, ?4, ?5)",
        (model, release, asked.mechanism, asked.minimum, asked.epsilon),
    )
    if written.rowcount:
        connection.execute(
            "DELETE FROM release_privacy WHERE rowid IN (SELECT rowid FROM release_privacy ORDER BY rowid DESC LIMIT -1 OFFSET ?) "
            "AND NOT EXISTS (SELECT 1 FROM real_accuracy WHERE real_accuracy.model = release_privacy.model "
            "AND real_accuracy.release = release_privacy.release)",
            (KEEP,),
        )


def asked_for(connection: sqlite3.Connection, body: Body | WindowClosed) -> CountPrivacy | None:
    """Within the caller's transaction: what the release of a record asks for."""
    match body:
        case WindowClosed(window=window, privacy=asked):
            if asked is not None:
                note_privacy(connection, window.model, window.release, asked)
            return asked
        case Window(window=window):
            return _noted(connection, window.model, window.release)
        case Event(model=str() as model, release=int() as release) | Accuracy(model=model, release=release):
            return _noted(connection, model, release)
        case _:
            return None


def _noted(connection: sqlite3.Connection, model: str, release: int) -> CountPrivacy | None:
    row = connection.execute(
        "SELECT mechanism, minimum, epsilon FROM release_privacy WHERE model = ? AND release = ?",
        (model, release),
    ).fetchone()
    return None if row is None else CountPrivacy(mechanism=row[0], minimum=row[1], epsilon=row[2])
