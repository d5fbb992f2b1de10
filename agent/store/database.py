"""``telemetry.db``: asynchronous face over one writer thread and one reader thread.

It is the least important of the databases: where it can't be opened, or turns out to be damaged, the device goes on without
it, and :class:`agent.store.keeper.DatabaseKeeper` brings it back.

A write is one transaction that has reached the disk (WAL, ``synchronous=FULL``) when it is awaited. Less would save a quarter
of the bytes written, and with a power cut take back records whose sequence the hub has seen: it would take the next ones, of
the same sequences, for these. The tables are made by
:mod:`agent.store.schema`, in its own process; here they are only used.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from agent.store.errors import DamagedError, SchemaMissingError, StoreClosedError, UnavailableError
from agent.store.writer import Writer

SCHEMA_VERSION = 3
"""``PRAGMA user_version`` this program needs. Migrations only add, so a newer database is opened too."""

BUSY_SECONDS = 5.0
"""How long a statement waits for a technician's tool that has the database locked."""

CHECKPOINT_PAGES = 1_000
"""Pages in the log from which they are copied into the database; the log is cut back to so many after a burst. Four times as
many save nothing that shows in a day, a quarter of them costs 4 % (``docs/telemetry.md``)."""

T = TypeVar("T")


class Database:
    """A telemetry database; one that was not opened (:meth:`open`, :meth:`reopen`) has a :attr:`problem`."""

    def __init__(self, path: Path, writer: Writer, problem: str = "not opened yet") -> None:
        self.path = path
        self.problem: str | None = problem
        """Why it can't be used now, in words."""
        self.trouble = asyncio.Event()
        """Set while there is a problem."""
        self.trouble.set()
        self._writer = writer
        self._reader = Writer("store-reader")
        self._write_connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path, writer: Writer) -> Self:
        """Open ``path``; raises like :meth:`reopen`."""
        database = cls(path, writer)
        try:
            await database.reopen()
        except BaseException:
            await database.close()
            raise
        return database

    async def reopen(self) -> None:
        """Open it, or open it anew.

        Raises:
            SchemaMissingError: there is no database, or one of an older schema: run ``python -m agent.store.schema``.
            DamagedError: it is not a database, or broken: ``python -m agent.store.schema`` sets it aside.
            sqlite3.Error: the disk is full, failing or read-only.
        """
        await self.let_go("being opened")
        self._write_connection = await self._writer.run(lambda: _open(self.path, read_only=False))
        self._read_connection = await self._reader.run(lambda: _open(self.path, read_only=True))
        self.problem = None
        self.trouble.clear()

    async def let_go(self, problem: str) -> None:
        """Close the connections; until :meth:`reopen` every use is an :class:`UnavailableError` that names ``problem``."""
        self.problem = problem
        self.trouble.set()
        write, self._write_connection = self._write_connection, None
        read, self._read_connection = self._read_connection, None
        if read is not None:
            await self._reader.run(read.close)
        if write is not None:
            await self._writer.run(write.close)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction on the writer thread: all of it is durable when this returns, or none.

        Raises:
            DamagedError: the database turned out to be broken.
            UnavailableError: it is not open, for the reason that :attr:`problem` gives.
            sqlite3.Error, OSError: the disk is full or failing; nothing has changed.
            StoreClosedError: after :meth:`close`.
        """
        return await self._run(self._writer, lambda: self._in_transaction(work))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on the reader's own connection; raises like :meth:`write`."""
        return await self._run(self._reader, lambda: self._query(work))

    async def close(self) -> None:
        """Close for good; the shared writer stays."""
        await self.let_go("closed")
        await self._reader.close()

    async def _run(self, thread: Writer, work: Callable[[], T]) -> T:
        try:
            return await thread.run(work)
        except DamagedError as error:
            self.problem = str(error)
            self.trouble.set()
            raise

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._write_connection
        if connection is None:
            raise self._absent()
        try:
            with connection:  # commits, or rolls back on any error
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)
        except sqlite3.DatabaseError as error:
            raise _in_words(self.path, error) from error

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._read_connection is None:
            raise self._absent()
        try:
            return work(self._read_connection)
        except sqlite3.DatabaseError as error:
            raise _in_words(self.path, error) from error

    def _absent(self) -> StoreClosedError | UnavailableError:
        if self.problem == "closed":
            return StoreClosedError(f"{self.path}: closed")
        return UnavailableError(f"{self.path}: can't be used: {self.problem}")


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not path.exists():
        raise SchemaMissingError(
            f"{path}: there is no database; run python -m agent.store.schema {path.parent}"
        )
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * 4096}")
        connection.execute(f"PRAGMA query_only = {int(read_only)}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _in_words(path, error) from error
    if version < SCHEMA_VERSION:
        connection.close()
        raise SchemaMissingError(
            f"{path}: schema {version}, this program needs {SCHEMA_VERSION}; "
            f"run python -m agent.store.schema {path.parent}"
        )
    return connection


def _in_words(path: Path, error: sqlite3.DatabaseError) -> Exception:
    """A broken file gets its own error; a full disk, a lock or a wrong statement stays what it is."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return DamagedError(
            f"{path}: damaged ({error}); python -m agent.store.schema {path.parent} sets it aside"
        )
    return error
