"""Make or migrate ``telemetry.db``: ``python -m agent.store.schema FOLDER``. The only user of sqlite-utils.

The daemon runs it as a child process at each start, so that sqlite-utils (and what it imports) never lives in the
resident supervisor. Running it again changes nothing. A damaged database is set aside (``telemetry.db.damaged``) and a new one
made, with a new epoch. The outcome is one JSON line on standard output, see :class:`Outcome`.

Each table, view and column is explained in ``docs/telemetry.md`` (a test compares).

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
from agent.store.importance import RANKS
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


def _third(database: Database) -> None:
    """The device's own history in full, and what thinning needs to know of a record.

    Ranks of importance are new. An index makes place for one that also serves slices.
    """
    for table, columns in _THIRD_COLUMNS.items():
        for name, kind in columns.items():
            database.table(table).add_column(name, kind)
    for table, (columns, key, optional) in _THIRD_TABLES.items():
        parts = {key} if isinstance(key, str) else set(key)
        database.table(table).create(columns, pk=key, not_null=set(columns) - parts - optional, strict=True)
    database.execute("DROP INDEX idx_windows_model_id")
    database.table("windows").create_index(["model", "slice", "id"])
    for record, rank in RANKS.items():
        database.execute("UPDATE outbox SET priority = ? WHERE kind = ?", (rank, record))
    for name, query in _THIRD_VIEWS.items():
        database.create_view(name, query, replace=True)


_THIRD_COLUMNS: dict[str, dict[str, type]] = {
    "windows": {
        "slice": str,
        "incomplete": int,
        "alarm": str,
        "alarm_since": float,
        "changed": str,
        "moved_most": str,
        "accuracy": float,
        "accuracy_low": float,
        "accuracy_high": float,
        "estimate_off": str,
    },
    "verdicts": {"js": float, "wasserstein": float, "not_finite_rate": float, "constant": int},
    "outbox": {"offered": int},
}
"""Table → columns that it gets; each may be NULL: yesterday's agent does not fill them."""

_THIRD_TABLES: dict[str, tuple[dict[str, type], str | tuple[str, ...], set[str]]] = {
    "health": (
        {
            "id": int,
            "time": float,
            "cpu_percent": float,
            "memory_available_mib": float,
            "disk_free_mib": float,
            "temperature_c": float,
            "thermal": str,
            "load": float,
            "supervisor_pss_mib": float,
        },
        "id",
        {"temperature_c", "thermal"},
    ),
    "drift_states": (
        {"model": str, "release": int, "slice": str, "updated": float, "state": bytes},
        ("model", "release", "slice"),
        set(),
    ),
    "sample_requests": (
        {
            "id": int,
            "time": float,
            "request": str,
            "accepted": int,
            "code": str,
            "text": str,
            "model": str,
            "first_release": int,
            "last_release": int,
            "maximum": int,
            "purpose": str,
            "approver": str,
            "chosen": int,
        },
        "id",
        {"model", "first_release", "last_release", "maximum", "purpose", "approver"},
    ),
    "samples_left": (
        {
            "request": str,
            "sample": str,
            "sequence": int,
            "queued": float,
            "acknowledged": float,
            "model": str,
            "release": int,
            "size": int,
        },
        ("request", "sample"),
        {"acknowledged"},
    ),
    "predictions": (
        {
            "id": int,
            "model": str,
            "release": int,
            "slice": str,
            "request": str,
            "time": float,
            "label": str,
            "confidence": float,
            "expected": float,
            "given": str,
            "origin": str,
            "given_at": float,
        },
        "id",
        {"slice", "expected", "given", "origin", "given_at"},
    ),
    "open_windows": (
        {
            "model": str,
            "release": int,
            "deployment": str,
            "slice": str,
            "opened": float,
            "rows": int,
            "body": bytes,
        },
        ("model", "release", "deployment", "slice", "opened"),
        set(),
    ),
    "prediction_classes": ({"model": str, "release": int, "labels": str}, ("model", "release"), set()),
    "release_privacy": (
        {"model": str, "release": int, "mechanism": str, "minimum": int, "epsilon": float},
        ("model", "release"),
        set(),
    ),
    "real_accuracy": (
        {
            "model": str,
            "release": int,
            "slice": str,
            "day": int,
            "origin": str,
            "rows": int,
            "correct": int,
            "expected_rows": int,
            "expected_correct": float,
            "changed": int,
        },
        ("model", "release", "slice", "day", "origin"),
        set(),
    ),
}
"""Table → its columns, its key, and those that may be NULL."""

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

_THIRD_VIEWS = {
    "accuracy_daily": """
        SELECT model, release, CASE slice WHEN '' THEN NULL ELSE slice END AS slice, date(day, 'unixepoch') AS day_utc, origin,
               rows, correct, round(1.0 * correct / rows, 4) AS accuracy,
               CASE expected_rows WHEN rows THEN round(expected_correct / rows, 4) END AS expected
        FROM real_accuracy WHERE rows > 0 ORDER BY day DESC, model, release DESC, slice, origin""",
    "predictions_labelled": """
        SELECT model, release, slice, request, datetime(time, 'unixepoch') AS time_utc, label AS said, given AS label,
               origin, label = given AS correct, confidence, datetime(given_at, 'unixepoch') AS given_utc
        FROM predictions WHERE given IS NOT NULL ORDER BY id DESC""",
    "samples_left_readable": """
        SELECT datetime(samples_left.queued, 'unixepoch') AS queued_utc,
               datetime(samples_left.acknowledged, 'unixepoch') AS acknowledged_utc, samples_left.sample, samples_left.model,
               samples_left.release, samples_left.size, samples_left.request,
               (SELECT approver FROM sample_requests WHERE sample_requests.request = samples_left.request AND accepted
                ORDER BY id DESC LIMIT 1) AS approver,
               (SELECT purpose FROM sample_requests WHERE sample_requests.request = samples_left.request AND accepted
                ORDER BY id DESC LIMIT 1) AS purpose
        FROM samples_left ORDER BY samples_left.queued DESC""",
    "drift_latest": """
        SELECT model, release, level, rows, reason, datetime(opened, 'unixepoch') AS opened_utc,
               datetime(closed, 'unixepoch') AS closed_utc, deployment, artifact, id AS window,
               coalesce(slice, 'whole') AS slice, coalesce(incomplete, 0) AS incomplete, alarm,
               datetime(alarm_since, 'unixepoch') AS alarm_since_utc, changed, moved_most,
               accuracy, accuracy_low, accuracy_high, estimate_off
        FROM windows WHERE id IN (SELECT max(id) FROM windows GROUP BY model, slice) ORDER BY model, windows.slice""",
    "drift_signals_latest": """
        SELECT windows.model, verdicts.signal, verdicts.level, verdicts.rows, psi, ks, p_value, test, missing_rate, outside_rate,
               coalesce(slice, 'whole') AS slice, js, wasserstein, not_finite_rate, constant
        FROM verdicts JOIN windows ON windows.id = verdicts.window
        WHERE windows.id IN (SELECT max(id) FROM windows GROUP BY model, slice) ORDER BY windows.model, windows.slice, psi DESC""",
    "drift_history": """
        SELECT id AS window, model, release, level, rows, reason, datetime(closed, 'unixepoch') AS closed_utc,
               coalesce(slice, 'whole') AS slice, coalesce(incomplete, 0) AS incomplete, alarm, changed, moved_most,
               accuracy, accuracy_low, accuracy_high
        FROM windows ORDER BY id DESC""",
    "drift_signals_history": """
        SELECT verdicts.window, windows.model, windows.release, coalesce(slice, 'whole') AS slice,
               datetime(closed, 'unixepoch') AS closed_utc, verdicts.signal, verdicts.level, verdicts.rows, psi, js, ks,
               wasserstein, p_value, test, missing_rate, not_finite_rate, outside_rate, constant
        FROM verdicts JOIN windows ON windows.id = verdicts.window ORDER BY verdicts.window DESC, verdicts.signal""",
    "health_readable": """
        SELECT datetime(time, 'unixepoch') AS time_utc, cpu_percent, load, memory_available_mib, disk_free_mib,
               temperature_c, thermal, supervisor_pss_mib
        FROM health ORDER BY id DESC""",
    "health_hourly": """
        SELECT strftime('%Y-%m-%d %H:00', time, 'unixepoch') AS hour_utc, count(*) AS samples,
               round(avg(cpu_percent), 1) AS cpu_percent, max(load) AS load, min(memory_available_mib) AS memory_available_mib,
               min(disk_free_mib) AS disk_free_mib, max(temperature_c) AS temperature_c,
               max(supervisor_pss_mib) AS supervisor_pss_mib
        FROM health GROUP BY hour_utc ORDER BY hour_utc DESC""",
    "outbox_ledger": """
        SELECT (SELECT value FROM meta WHERE key = 'epoch') AS epoch,
               coalesce((SELECT value FROM counters WHERE name = 'recorded'), 0) AS recorded,
               coalesce((SELECT value FROM counters WHERE name = 'acknowledged'), 0) AS acknowledged,
               (SELECT count(*) FROM outbox) AS pending,
               coalesce((SELECT sum(value) FROM counters WHERE name LIKE 'dropped:%'), 0) AS dropped,
               coalesce((SELECT sum(size) FROM outbox), 0) AS pending_bytes,
               coalesce((SELECT sum(value) FROM counters WHERE name LIKE 'merged:%'), 0) AS merged""",
    "outbox_dropped": """
        SELECT substr(name, 1, instr(name, ':') - 1) AS what, substr(name, instr(name, ':') + 1) AS kind, value AS records
        FROM counters WHERE name LIKE 'dropped:%' OR name LIKE 'merged:%' ORDER BY what, kind""",
    "outbox_waiting": """
        SELECT kind, count(*) AS records, sum(size) AS bytes, sum(coalesce(offered, 0)) AS offered,
               datetime(min(recorded), 'unixepoch') AS oldest_utc
        FROM outbox GROUP BY kind ORDER BY max(priority) DESC""",
    "quarantine_readable": """
        SELECT sequence, kind, reason, size, datetime(recorded, 'unixepoch') AS recorded_utc
        FROM quarantine ORDER BY sequence DESC""",
}

_MIGRATIONS: dict[int, Callable[[Database], None]] = {1: _first, 2: _second, 3: _third}
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
