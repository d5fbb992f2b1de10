"""What a device spends: network bytes by purpose and day, flash writes by deployment; in ``telemetry.db``.

Counting must not wear out what it counts: :meth:`Ledger.add` adds in memory, and every :data:`FLUSH_SECONDS`, and when a
deployment ends, the sums go to the disk in one transaction. A power cut loses what was counted since, nothing else.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from agent.protocol.ledger import FlashWrites, LedgerReport, Traffic
from agent.store.database import Database
from agent.store.errors import StoreError

log = logging.getLogger(__name__)

FLUSH_SECONDS = 1_800.0
"""Six times as often costs 2 MB of flash a day (``python -m tests.fault.store.measure_flash``)."""
KEEP_DAYS = 400
KEEP_DEPLOYMENTS = 256


class _Run(Struct, kw_only=True):
    """A deployment under way."""

    model: str
    release: int
    began: float
    ended: float | None = None
    written: int = 0
    """Not on the disk yet."""


class Ledger:
    """The ledger of one device; used from the event loop only.

    Args:
        clock: Unix seconds.
        written: bytes that this process has had written to storage since its start.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], float], written: Callable[[], int] | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._written = written or process_written_bytes
        self._seen = self._written()
        self._traffic: dict[tuple[str, str], tuple[int, int]] = {}
        self._runs: dict[str, _Run] = {}
        self._turn = asyncio.Lock()
        self._ended = asyncio.Event()

    def add(self, purpose: str, *, bytes_in: int = 0, bytes_out: int = 0) -> None:
        """Count bytes that came or went over the network for ``purpose``."""
        key = (datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%d"), purpose)
        before_in, before_out = self._traffic.get(key, (0, 0))
        self._traffic[key] = (before_in + bytes_in, before_out + bytes_out)

    def began(self, deployment: str, model: str, release: int) -> None:
        """A deployment is under way (again, after a restart): what is written from now on is counted for it too."""
        self._attribute()
        if deployment not in self._runs:
            self._runs[deployment] = _Run(model=model, release=release, began=self._clock())

    def ended(self, deployment: str) -> None:
        """It has ended; one that never began is ignored."""
        self._attribute()
        run = self._runs.get(deployment)
        if run is not None and run.ended is None:
            run.ended = self._clock()
            self._ended.set()

    async def flush(self) -> None:
        """Put what was counted on the disk.

        Raises:
            StoreError, sqlite3.Error: it can't be; nothing is lost, the next flush tries again.
        """
        async with self._turn:
            self._attribute()
            traffic, runs = self._traffic, {name: _copy(run) for name, run in self._runs.items()}
            self._traffic = {}
            try:
                await self._database.write(lambda connection: _store(connection, traffic, runs))
            except BaseException:
                for key, (came, went) in traffic.items():
                    later_in, later_out = self._traffic.get(key, (0, 0))
                    self._traffic[key] = (later_in + came, later_out + went)
                raise
            for name, run in runs.items():
                self._runs[name].written -= run.written
                if run.ended is not None:
                    del self._runs[name]

    async def report(self) -> LedgerReport:
        """Everything, what is still in memory included; raises like :meth:`flush`."""
        await self.flush()
        return await self._database.read(_report)

    async def spent(self, purpose: str, month: str) -> int:
        """Bytes of one purpose, both ways, in one month (as ``2026-11``), what is still in memory included.

        Raises:
            StoreError, sqlite3.Error: the ledger can't be read.
        """
        async with self._turn:  # not while a flush has taken them out of memory
            fresh = sum(
                came + went
                for (day, what), (came, went) in self._traffic.items()
                if what == purpose and day.startswith(month)
            )
            return fresh + await self._database.read(lambda connection: _spent(connection, purpose, month))

    async def run(self) -> None:
        """Flush now and then until cancelled, and once more at the end."""
        try:
            while True:
                self._ended.clear()
                try:
                    async with asyncio.timeout(FLUSH_SECONDS):
                        await self._ended.wait()
                except TimeoutError:
                    pass
                await self._try_flush()
        finally:
            await self._try_flush()

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except (StoreError, sqlite3.Error, OSError):
            log.warning("the ledger could not be stored; what was counted is kept in memory", exc_info=True)

    def _attribute(self) -> None:
        """What was written since the last look belongs to every deployment under way."""
        now = self._written()
        for run in self._runs.values():
            if run.ended is None:
                run.written += now - self._seen
        self._seen = now


def process_written_bytes() -> int:
    """Bytes that the kernel was made to write to storage for this process; 0 where it does not tell."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("write_bytes:")), 0)


def _copy(run: _Run) -> _Run:
    return _Run(model=run.model, release=run.release, began=run.began, ended=run.ended, written=run.written)


def _store(
    connection: sqlite3.Connection, traffic: dict[tuple[str, str], tuple[int, int]], runs: dict[str, _Run]
) -> None:
    connection.executemany(
        "INSERT INTO traffic (day, purpose, bytes_in, bytes_out) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (day, purpose) "
        "DO UPDATE SET bytes_in = bytes_in + ?3, bytes_out = bytes_out + ?4",
        [(day, purpose, came, went) for (day, purpose), (came, went) in traffic.items()],
    )
    connection.executemany(
        "INSERT INTO flash (deployment, model, release, began, ended, written) VALUES (?1, ?2, ?3, ?4, ?5, ?6) "
        "ON CONFLICT (deployment) DO UPDATE SET ended = ?5, written = written + ?6",
        [(name, run.model, run.release, run.began, run.ended, run.written) for name, run in runs.items()],
    )
    connection.execute(
        "DELETE FROM traffic WHERE day < (SELECT date(max(day), ?) FROM traffic)", (f"-{KEEP_DAYS} days",)
    )
    connection.execute(
        "DELETE FROM flash WHERE deployment NOT IN (SELECT deployment FROM flash ORDER BY began DESC LIMIT ?)",
        (KEEP_DEPLOYMENTS,),
    )


def _spent(connection: sqlite3.Connection, purpose: str, month: str) -> int:
    row = connection.execute(
        "SELECT coalesce(sum(bytes_in + bytes_out), 0) FROM traffic WHERE purpose = ? AND substr(day, 1, 7) = ?",
        (purpose, month),
    ).fetchone()
    return int(row[0])


def _report(connection: sqlite3.Connection) -> LedgerReport:
    traffic = connection.execute(
        "SELECT substr(day, 1, 7) AS month, purpose, sum(bytes_in), sum(bytes_out) FROM traffic "
        "GROUP BY month, purpose ORDER BY month DESC, purpose"
    )
    flash = connection.execute(
        "SELECT deployment, model, release, began, ended, written FROM flash ORDER BY began DESC"
    )
    return LedgerReport(
        traffic=tuple(
            Traffic(month=month, purpose=purpose, bytes_in=came, bytes_out=went)
            for month, purpose, came, went in traffic
        ),
        flash=tuple(
            FlashWrites(
                deployment=deployment,
                model=model,
                release=release,
                began=began,
                ended=ended,
                written_bytes=written,
            )
            for deployment, model, release, began, ended, written in flash
        ),
    )
