import sqlite3
from pathlib import Path

import pytest

from agent.store.database import CHECKPOINT_PAGES, SCHEMA_VERSION, Database
from agent.store.errors import DamagedError, SchemaMissingError, StoreClosedError
from agent.store.schema import migrate
from agent.store.writer import Writer


async def test_without_schema_it_is_refused_with_the_remedy(tmp_path: Path, writer: Writer) -> None:
    path = tmp_path / "telemetry.db"
    with pytest.raises(SchemaMissingError, match=r"run python -m agent\.store\.schema"):
        await Database.open(path, writer)
    sqlite3.connect(path).close()
    path.touch()
    with pytest.raises(SchemaMissingError, match=f"schema 0, this program needs {SCHEMA_VERSION}"):
        await Database.open(path, writer)


async def test_a_newer_schema_is_opened(tmp_path: Path, writer: Writer) -> None:
    migrate(tmp_path)
    connection = sqlite3.connect(tmp_path / "telemetry.db")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    await (await Database.open(tmp_path / "telemetry.db", writer)).close()


async def test_what_is_no_database_is_damaged(tmp_path: Path, writer: Writer) -> None:
    (tmp_path / "telemetry.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DamagedError, match="sets it aside"):
        await Database.open(tmp_path / "telemetry.db", writer)


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO counters VALUES ('half', 1)")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await database.write(half)
    assert await database.read(lambda c: c.execute("SELECT * FROM counters").fetchall()) == []
    await database.write(lambda c: c.execute("INSERT INTO counters VALUES ('whole', 1)"))
    assert await database.read(lambda c: c.execute("SELECT * FROM counters").fetchall()) == [("whole", 1)]


async def test_it_is_durable_by_its_settings_and_reads_can_not_write(database: Database) -> None:
    assert await database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await database.write(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await database.read(lambda c: c.execute("DELETE FROM counters"))


async def test_closed(database: Database) -> None:
    await database.close()
    with pytest.raises(StoreClosedError):
        await database.write(lambda c: c.execute("SELECT 1"))
    with pytest.raises(StoreClosedError):
        await database.read(lambda c: c.execute("SELECT 1"))


async def test_after_a_burst_the_log_is_cut_back_and_every_commit_is_synced(database: Database) -> None:
    log = database.path.with_name(database.path.name + "-wal")

    def burst(connection: sqlite3.Connection) -> None:
        blobs = [(number, "event", "x", 1, 1.0, bytes(250_000)) for number in range(1, 41)]
        connection.executemany("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?)", blobs)

    await database.write(burst)
    assert log.stat().st_size > 2 * CHECKPOINT_PAGES * 4096
    for _ in range(2):  # the first one begins the log anew, the second finds it too long
        await database.write(
            lambda connection: connection.execute("DELETE FROM quarantine WHERE sequence = 1")
        )
        await database.write(lambda connection: connection.execute("UPDATE meta SET value = value || 'x'"))
    assert log.stat().st_size <= CHECKPOINT_PAGES * 4096
    assert await database.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone()) == (
        2,
    )
