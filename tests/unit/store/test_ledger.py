import sqlite3
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.errors import StoreClosedError
from agent.store.ledger import Ledger, process_written_bytes

NOVEMBER, DECEMBER = 1_795_910_400.0, 1_796_083_200.0


class Clock:
    now = NOVEMBER
    written = 1_000

    def make(self, database: Database) -> Ledger:
        return Ledger(database, clock=lambda: self.now, written=lambda: self.written)


async def test_bytes_add_up_by_month_and_purpose_also_over_restarts(database: Database) -> None:
    clock = Clock()
    ledger = clock.make(database)
    ledger.add("artifacts", bytes_in=10)
    ledger.add("artifacts", bytes_in=5, bytes_out=1)
    ledger.add("telemetry", bytes_out=100)
    await ledger.flush()
    ledger = clock.make(database)
    ledger.add("artifacts", bytes_in=1)
    clock.now = DECEMBER
    ledger.add("artifacts", bytes_in=7)
    rows = (await ledger.report()).traffic
    assert [(row.month, row.purpose, row.bytes_in, row.bytes_out) for row in rows] == [
        ("2026-12", "artifacts", 7, 0),
        ("2026-11", "artifacts", 16, 1),
        ("2026-11", "telemetry", 0, 100),
    ]


async def test_what_is_written_belongs_to_the_deployments_under_way(database: Database) -> None:
    clock = Clock()
    ledger = clock.make(database)
    clock.written += 1  # by nobody
    ledger.began("d-1", "digits", 1)
    clock.written += 10
    ledger.began("d-2", "faces", 4)
    clock.written += 100
    ledger.ended("d-1")
    clock.written += 1_000
    rows = {row.deployment: row for row in (await ledger.report()).flash}
    assert rows["d-1"].written_bytes == 110
    assert rows["d-2"].written_bytes == 1_100
    assert (rows["d-1"].ended, rows["d-2"].ended) == (NOVEMBER, None)
    ledger.ended("d-2")
    clock.written += 5
    assert {row.written_bytes for row in (await ledger.report()).flash} == {110, 1_100}


async def test_a_deployment_that_goes_on_after_a_restart_goes_on_counting(database: Database) -> None:
    clock = Clock()
    ledger = clock.make(database)
    ledger.began("d-1", "digits", 1)
    clock.written += 10
    await ledger.flush()
    clock.written = 0  # the kernel counts by process
    ledger = clock.make(database)
    clock.now += 60
    ledger.began("d-1", "digits", 1)
    ledger.began("d-1", "digits", 1)
    clock.written += 3
    ledger.ended("d-1")
    ledger.ended("d-9")
    (row,) = (await ledger.report()).flash
    assert (row.written_bytes, row.began, row.ended) == (13, NOVEMBER, NOVEMBER + 60)


async def test_what_can_not_be_stored_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    ledger = clock.make(database)
    ledger.add("artifacts", bytes_in=10)
    ledger.began("d-1", "digits", 1)
    clock.written += 4

    async def full(_work: object) -> None:
        ledger.add("artifacts", bytes_in=2)  # meanwhile
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(database, "write", full)
        with pytest.raises(sqlite3.OperationalError):
            await ledger.flush()
    report = await ledger.report()
    assert (report.traffic[0].bytes_in, report.flash[0].written_bytes) == (12, 4)


async def test_a_closed_database_is_an_error(database: Database) -> None:
    ledger = Clock().make(database)
    await database.close()
    with pytest.raises(StoreClosedError):
        await ledger.flush()


def test_the_kernel_counts_what_this_process_writes(tmp_path: Path) -> None:
    before = process_written_bytes()
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    if process_written_bytes() == before:
        pytest.skip(f"{tmp_path} is on a file system in memory, of which the kernel counts nothing")
    assert process_written_bytes() - before >= 1_000_000
