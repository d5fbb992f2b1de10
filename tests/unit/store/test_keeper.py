import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent.store import keeper as keeper_module
from agent.store.database import Database
from agent.store.errors import StoreClosedError, StoreError, UnavailableError
from agent.store.keeper import DatabaseKeeper
from agent.store.schema import migrate
from agent.store.writer import Writer


class Disk:
    """Prepares the database once the disk lets it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.full = True
        self.asked = 0

    async def prepare(self) -> str | None:
        self.asked += 1
        if self.full:
            raise StoreError("database or disk is full")
        outcome = migrate(self.folder)
        return outcome.problem


def problem(keeper: DatabaseKeeper) -> str | None:
    return keeper.problem


def names(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM counters").fetchone()[0])


async def test_without_room_it_says_why_and_later_comes(
    tmp_path: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "RETRY_SECONDS", (0.01,))
    disk, database = Disk(tmp_path), Database(tmp_path / "telemetry.db", writer)
    keeper = DatabaseKeeper(database, disk.prepare)
    assert await keeper.bring() is None
    assert problem(keeper) == "database or disk is full"
    with pytest.raises(UnavailableError, match="can't be used: database or disk is full"):
        await database.read(names)
    with pytest.raises(UnavailableError):
        await database.write(names)
    told: list[str | None] = []

    async def back(note: str | None) -> None:
        told.append(note)

    keeping = asyncio.create_task(keeper.run(back))
    async with asyncio.timeout(10):
        while disk.asked < 4:  # noqa: ASYNC110 - the disk tells nobody
            await asyncio.sleep(0.005)
        disk.full = False
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert told == [None]
    assert problem(keeper) is None
    assert await database.read(names) == 0
    keeping.cancel()
    await database.close()
    with pytest.raises(StoreClosedError):
        await database.read(names)


async def test_damage_in_use_is_set_aside(tmp_path: Path, writer: Writer) -> None:
    disk, database = Disk(tmp_path), Database(tmp_path / "telemetry.db", writer)
    disk.full = False
    keeper = DatabaseKeeper(database, disk.prepare)
    await keeper.bring()
    told: asyncio.Queue[str | None] = asyncio.Queue()
    keeping = asyncio.create_task(keeper.run(told.put))
    path = tmp_path / "telemetry.db"
    path.write_bytes(b"no database" * 10_000)
    path.with_name("telemetry.db-wal").write_bytes(b"")
    with pytest.raises((StoreError, sqlite3.Error)):
        await database.write(lambda connection: connection.execute("INSERT INTO counters VALUES ('a', 1)"))
    async with asyncio.timeout(10):
        note = await told.get()
    assert note is not None
    assert (tmp_path / "telemetry.db.damaged").exists()
    await database.write(lambda connection: connection.execute("INSERT INTO counters VALUES ('a', 1)"))
    assert await database.read(names) == 1
    keeping.cancel()
    await database.close()
