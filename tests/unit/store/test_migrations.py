"""Yesterday's database under today's agent, and today's database under yesterday's."""

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.store.database import SCHEMA_VERSION, Database
from agent.store.importance import RANKS
from agent.store.ledger import Ledger
from agent.store.schema import migrate
from agent.store.writer import Writer

YESTERDAY = Path(__file__).with_name("schema_2.sql")
OLDER = (Path(__file__).with_name("schema_1.sql"), YESTERDAY)

QUERIES = (
    "SELECT value FROM meta WHERE key = 'epoch'",
    (
        "INSERT INTO counters (name, value) VALUES ('recorded', 1) "
        "ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
    ),
    (
        "INSERT INTO events (time, severity, kind, text, model, release, deployment) "
        "VALUES (3.0, 'info', 'hold', 'held', NULL, NULL, NULL)"
    ),
    "DELETE FROM events WHERE id <= -1",
    "INSERT INTO outbox (sequence, kind, priority, size, recorded, body) VALUES (3, 'event', 1, 2, 3.0, x'7B7D')",
    "SELECT sequence, body FROM outbox ORDER BY sequence LIMIT 256",
    "DELETE FROM outbox WHERE sequence = 3 RETURNING size",
    "INSERT INTO quarantine (sequence, kind, reason, size, recorded, body) VALUES (9, 'event', 'x', 1, 1.0, x'00')",
    (
        "INSERT INTO windows (model, release, deployment, artifact, opened, closed, rows, level, reason, body) "
        "VALUES ('digits', 1, 'd-1', '00', 1.0, 2.0, 3, 'ok', 'fine', x'7B7D')"
    ),
    (
        "INSERT INTO verdicts (window, signal, level, rows, psi, ks, p_value, test, missing_rate, outside_rate) "
        "VALUES (2, 'x', 'ok', 3, 0.1, 0.1, 0.1, 'chi2', 0.0, 0.0)"
    ),
    "SELECT body FROM windows WHERE id IN (SELECT max(id) FROM windows GROUP BY model) ORDER BY model",
    "SELECT time, severity, kind, text, model, release, deployment FROM events ORDER BY id DESC LIMIT 20",
    "SELECT * FROM drift_latest",
    "SELECT * FROM drift_signals_latest",
    "SELECT * FROM drift_history",
    "SELECT * FROM events_readable",
    "SELECT * FROM outbox_ledger",
    (
        "INSERT INTO traffic (day, purpose, bytes_in, bytes_out) VALUES ('2026-11-28', 'telemetry', 1, 2) "
        "ON CONFLICT (day, purpose) DO UPDATE SET bytes_in = bytes_in + 1, bytes_out = bytes_out + 2"
    ),
    (
        "INSERT INTO flash (deployment, model, release, began, ended, written) VALUES ('d-1', 'digits', 1, 1.0, NULL, 5) "
        "ON CONFLICT (deployment) DO UPDATE SET ended = 2.0, written = written + 5"
    ),
    "DELETE FROM traffic WHERE day < (SELECT date(max(day), '-400 days') FROM traffic)",
    "DELETE FROM flash WHERE deployment NOT IN (SELECT deployment FROM flash ORDER BY began DESC LIMIT 256)",
    "SELECT substr(day, 1, 7) AS month, purpose, sum(bytes_in), sum(bytes_out) FROM traffic GROUP BY month, purpose",
    "SELECT * FROM traffic_monthly",
    "SELECT * FROM flash_writes",
)
"""Every kind of statement that the agent of schema 2 sends."""


def yesterday(folder: Path, script: Path = YESTERDAY) -> Path:
    path = folder / "telemetry.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script.read_text())
    return path


def contents(
    path: Path, known: dict[tuple[str, str], tuple[object, ...]]
) -> dict[str, list[tuple[object, ...]]]:
    """Table → its rows, in the columns that are ``known``."""
    tables = sorted({table for table, _ in known})
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(
                f"SELECT {', '.join(column for name, column in known if name == table)} FROM {table} ORDER BY 1"
            ).fetchall()
            for table in tables
        }


def views(path: Path) -> dict[str, list[str]]:
    """View → its columns."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
        return {
            name: [column for column, *_ in connection.execute(f"SELECT * FROM {name}").description]
            for name in names
        }


def columns(path: Path) -> dict[tuple[str, str], tuple[object, ...]]:
    """(table, column) → type, NOT NULL, default, place in the primary key."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            (table, row[1]): tuple(row[2:])
            for table in tables
            for row in connection.execute(f"PRAGMA table_info({table})")
        }


@pytest.mark.parametrize("script", OLDER, ids=["schema 1", "schema 2"])
def test_up_nothing_that_was_there_is_lost(tmp_path: Path, script: Path) -> None:
    path = yesterday(tmp_path, script)
    version = OLDER.index(script) + 1
    known, before, shown = columns(path), contents(path, columns(path)), views(path)
    outcome = migrate(tmp_path)
    assert (outcome.before, outcome.after, outcome.quarantined) == (version, SCHEMA_VERSION, None)
    after = contents(path, known)
    if script == YESTERDAY:
        assert all(before.values()), "each table has something to lose"
    before["outbox"] = [(*row[:2], RANKS[str(row[1])], *row[3:]) for row in before["outbox"]]
    assert after == before
    for name, was in shown.items():
        assert views(path)[name][: len(was)] == was, "a query written for yesterday's view still works"


async def test_up_todays_agent_uses_it(tmp_path: Path) -> None:
    path = yesterday(tmp_path)
    migrate(tmp_path)
    writer = Writer()
    database = await Database.open(path, writer)
    ledger = Ledger(database, clock=lambda: 1_795_000_000.0)
    ledger.add("telemetry", bytes_out=7)
    assert [row.bytes_out for row in (await ledger.report()).traffic] == [2_007]
    await database.close()
    await writer.close()


def test_down_yesterdays_statements_all_work_on_todays_database(tmp_path: Path) -> None:
    migrate(tmp_path)
    with closing(sqlite3.connect(tmp_path / "telemetry.db")) as connection:
        for query in QUERIES:
            connection.execute(query).fetchall()
        connection.commit()


def test_down_migrations_only_add(tmp_path: Path) -> None:
    """What yesterday's agent does not know it must be able to leave out."""
    (tmp_path / "old").mkdir()
    old = columns(yesterday(tmp_path / "old"))
    migrate(tmp_path)
    new = columns(tmp_path / "telemetry.db")
    assert {key: new.get(key) for key in old} == old
    tables = {table for table, _ in old}
    for (table, _), (_type, not_null, default, _key) in new.items():
        assert table not in tables or (table, _) in old or not not_null or default is not None


async def test_down_a_newer_schema_than_ours_is_opened_and_left_alone(tmp_path: Path) -> None:
    migrate(tmp_path)
    path = tmp_path / "telemetry.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE tomorrow (x TEXT)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    outcome = migrate(tmp_path)
    assert (outcome.before, outcome.after) == (SCHEMA_VERSION + 1, SCHEMA_VERSION + 1)
    writer = Writer()
    database = await Database.open(path, writer)
    assert (
        await database.read(lambda connection: connection.execute("SELECT * FROM tomorrow").fetchall()) == []
    )
    await database.close()
    await writer.close()


def test_a_migration_without_room_leaves_yesterdays_database_whole(tmp_path: Path) -> None:
    path = yesterday(tmp_path)
    limit = path.stat().st_size // 4  # of any file: neither the database nor its log may grow
    done = subprocess.run(
        [sys.executable, "-m", "agent.store.schema", str(tmp_path)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode in {1, -signal.SIGXFSZ}, done.stderr
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for query in QUERIES:
            connection.execute(query).fetchall()
        connection.rollback()
    assert migrate(tmp_path).after == SCHEMA_VERSION


@pytest.mark.skipif(
    shutil.which("strace") is None,
    reason="MISSING TOOL: strace (apt install strace); a migration that is killed is not tested",
)
@pytest.mark.parametrize("calls", ["fsync,fdatasync", pytest.param("pwrite64", marks=pytest.mark.soak)])
def test_a_migration_that_is_killed_anywhere_leaves_one_of_both(tmp_path: Path, calls: str) -> None:
    versions: set[int] = set()
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = yesterday(folder)
        inject = f"inject={calls}:signal=KILL:when={number}"
        strace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            f"trace={calls}",
            "-e",
            inject,
        ]
        argv = [*strace, sys.executable, "-m", "agent.store.schema", str(folder)]
        done = subprocess.run(argv, capture_output=True, check=False)
        with closing(sqlite3.connect(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
        versions.add(version)
        if done.returncode == 0:
            break
        assert migrate(folder).after == SCHEMA_VERSION
    assert done.returncode == 0, "the sweep went over its end"
    assert versions == {2, SCHEMA_VERSION}
