"""Make or migrate ``telemetry.db``: ``python -m agent.store.schema FOLDER``. The only user of sqlite-utils.

The daemon runs it as a child process at each start, so that sqlite-utils (and what it imports) never lives in the
resident supervisor. Running it again changes nothing. A damaged database is set aside (``telemetry.db.damaged``) and a new one
made, with a new epoch. The outcome is one JSON line on standard output, see :class:`Outcome`.

Tables
    ``meta`` (key, value): ``epoch``. ``counters`` (name, value): the outbox ledger. ``outbox``: records not yet acknowledged.
    ``quarantine``: the newest records that could never be sent. ``events``. ``windows``: closed drift windows, whole.
    ``verdicts``: one row a signal of each window. ``traffic``: network bytes by day and purpose. ``flash``: bytes written to
    storage by deployment.

Views, for people and for tools such as ``datasette``
    ``drift_latest``: newest window of each model. ``drift_signals_latest``: its signals.
    ``drift_history``: all windows, newest first. ``events_readable``: newest first, times as text.
    ``outbox_ledger``: recorded = acknowledged + pending + dropped. ``traffic_monthly``: network bytes, newest first.
    ``flash_writes``: deployments, newest first.

Migrations only add: a table, a view, a column that may be NULL. So the agent before this one opens the database too.
"""

import argparse
import secrets
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sqlite_utils import Database

from agent.store.database import BUSY_SECONDS, SCHEMA_VERSION
from agent.store.durable_file import fsync_folder, make_folder
from agent.store.quarantine import quarantine

FILENAME = "telemetry.db"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What :func:`migrate` did."""

    path: str
    before: int
    """Schema version found; 0: none."""
    after: int
    quarantined: str | None = None
    """Where a damaged database was put."""
    problem: str | None = None
    """What was wrong with it."""


def migrate(folder: Path) -> Outcome:
    """Bring ``telemetry.db`` in ``folder`` to this program's schema; idempotent.

    Raises:
        OSError, sqlite3.Error: it can't be written (full disk, read-only, locked).
    """
    make_folder(folder)
    path = folder / FILENAME
    problem = _problem(path)
    aside = quarantine(path) if problem is not None else None
    with Database(path) as database:
        database.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        before = _version(database)
        for version in range(before + 1, SCHEMA_VERSION + 1):
            with database.atomic():
                _MIGRATIONS[version](database)
                database.execute(f"PRAGMA user_version = {version}")
        after = _version(database)
    fsync_folder(folder)
    return Outcome(
        path=str(path),
        before=before,
        after=after,
        quarantined=None if aside is None else str(aside),
        problem=problem,
    )


def _version(database: Database) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _problem(path: Path) -> str | None:
    """Why the database can't be used, if it can't."""
    if not path.exists():
        return None
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if not getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise
        return str(error)
    finally:
        connection.close()
    return None if verdict == "ok" else str(verdict)


def _first(database: Database) -> None:
    tables: dict[str, tuple[dict[str, type], str]] = {
        "meta": ({"key": str, "value": str}, "key"),
        "counters": ({"name": str, "value": int}, "name"),
        "outbox": (
            {"sequence": int, "kind": str, "priority": int, "size": int, "recorded": float, "body": bytes},
            "sequence",
        ),
        "quarantine": (
            {"sequence": int, "kind": str, "reason": str, "size": int, "recorded": float, "body": bytes},
            "sequence",
        ),
        "events": (
            {
                "id": int,
                "time": float,
                "severity": str,
                "kind": str,
                "text": str,
                "model": str,
                "release": int,
                "deployment": str,
            },
            "id",
        ),
        "windows": (
            {
                "id": int,
                "model": str,
                "release": int,
                "deployment": str,
                "artifact": str,
                "opened": float,
                "closed": float,
                "rows": int,
                "level": str,
                "reason": str,
                "body": bytes,
            },
            "id",
        ),
    }
    optional = {"model", "release", "deployment"}
    for name, (columns, key) in tables.items():
        required = set(columns) - {key} - (optional if name == "events" else set())
        database.table(name).create(columns, pk=key, not_null=required, strict=True)
    database.table("verdicts").create(
        {
            "window": int,
            "signal": str,
            "level": str,
            "rows": int,
            "psi": float,
            "ks": float,
            "p_value": float,
            "test": str,
            "missing_rate": float,
            "outside_rate": float,
        },
        pk=("window", "signal"),
        foreign_keys=[("window", "windows", "id")],
        strict=True,
    )
    database.table("outbox").create_index(["priority", "sequence"])
    database.table("windows").create_index(["model", "id"])
    database.table("meta").insert({"key": "epoch", "value": secrets.token_hex(8)})
    for name, query in _FIRST_VIEWS.items():
        database.create_view(name, query)


def _second(database: Database) -> None:
    """The ledger (:mod:`agent.store.ledger`)."""
    columns = {"day": str, "purpose": str, "bytes_in": int, "bytes_out": int}
    database.table("traffic").create(
        columns, pk=("day", "purpose"), not_null={"bytes_in", "bytes_out"}, strict=True
    )
    columns = {
        "deployment": str,
        "model": str,
        "release": int,
        "began": float,
        "ended": float,
        "written": int,
    }
    database.table("flash").create(
        columns, pk="deployment", not_null=set(columns) - {"deployment", "ended"}, strict=True
    )
    for name, query in _SECOND_VIEWS.items():
        database.create_view(name, query)


_FIRST_VIEWS = {
    "drift_latest": """
        SELECT model, release, level, rows, reason, datetime(opened, 'unixepoch') AS opened_utc,
               datetime(closed, 'unixepoch') AS closed_utc, deployment, artifact, id AS window
        FROM windows WHERE id IN (SELECT max(id) FROM windows GROUP BY model)""",
    "drift_signals_latest": """
        SELECT windows.model, verdicts.signal, verdicts.level, verdicts.rows, psi, ks, p_value, test, missing_rate, outside_rate
        FROM verdicts JOIN windows ON windows.id = verdicts.window
        WHERE windows.id IN (SELECT max(id) FROM windows GROUP BY model) ORDER BY windows.model, psi DESC""",
    "drift_history": """
        SELECT id AS window, model, release, level, rows, reason, datetime(closed, 'unixepoch') AS closed_utc
        FROM windows ORDER BY id DESC""",
    "events_readable": """
        SELECT id, datetime(time, 'unixepoch') AS time_utc, severity, kind, text, model, release, deployment
        FROM events ORDER BY id DESC""",
    "outbox_ledger": """
        SELECT (SELECT value FROM meta WHERE key = 'epoch') AS epoch,
               coalesce((SELECT value FROM counters WHERE name = 'recorded'), 0) AS recorded,
               coalesce((SELECT value FROM counters WHERE name = 'acknowledged'), 0) AS acknowledged,
               (SELECT count(*) FROM outbox) AS pending,
               coalesce((SELECT sum(value) FROM counters WHERE name LIKE 'dropped:%'), 0) AS dropped,
               coalesce((SELECT sum(size) FROM outbox), 0) AS pending_bytes""",
}

_SECOND_VIEWS = {
    "traffic_monthly": """
        SELECT substr(day, 1, 7) AS month, purpose, sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out
        FROM traffic GROUP BY month, purpose ORDER BY month DESC, purpose""",
    "flash_writes": """
        SELECT deployment, model, release, datetime(began, 'unixepoch') AS began_utc,
               datetime(ended, 'unixepoch') AS ended_utc, written
        FROM flash ORDER BY began DESC""",
}

_MIGRATIONS: dict[int, Callable[[Database], None]] = {1: _first, 2: _second}
"""Version → what makes it from the one before."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(
        prog="python -m agent.store.schema", description="Make or migrate telemetry.db."
    )
    parser.add_argument("folder", type=Path, help="the device's state folder")
    folder: Path = parser.parse_args(arguments).folder
    try:
        outcome = migrate(folder)
    except (OSError, sqlite3.Error) as error:
        sys.stderr.write(f"{folder / FILENAME}: {error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
