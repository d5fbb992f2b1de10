"""``telemetry.db``: asynchronous face over one writer thread and one reader thread.

A write is one transaction that has reached the disk (WAL, ``synchronous=FULL``) when it is awaited. The tables are made by
:mod:`agent.store.schema`, in its own process; here they are only used.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from agent.store.errors import DamagedError, SchemaMissingError, StoreClosedError
from agent.store.writer import Writer

SCHEMA_VERSION = 2
"""``PRAGMA user_version`` this program needs. Migrations only add, so a newer database is opened too."""

BUSY_SECONDS = 5.0
"""How long a statement waits for a technician's tool that has the database locked."""

T = TypeVar("T")


class Database:
    """An open telemetry database; make it with :meth:`open`."""

    def __init__(self, path: Path, writer: Writer, reader: Writer) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._write_connection: sqlite3.Connection | None = None
        self._read_connection: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: Path, writer: Writer) -> Self:
        """Open ``path``.

        Raises:
            SchemaMissingError: there is no database, or one of an older schema: run ``python -m agent.store.schema``.
            DamagedError: it is not a database, or broken: ``python -m agent.store.schema`` sets it aside.
        """
        reader = Writer("store-reader")
        database = cls(path, writer, reader)
        try:
            database._write_connection = await writer.run(lambda: _open(path, read_only=False))
            database._read_connection = await reader.run(lambda: _open(path, read_only=True))
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` in one transaction on the writer thread: all of it is durable when this returns, or none.

        Raises:
            DamagedError: the database turned out to be broken.
            sqlite3.Error, OSError: the disk is full or failing; nothing has changed.
            StoreClosedError: after :meth:`close`.
        """
        return await self._writer.run(lambda: self._in_transaction(work))

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on the reader's own connection; raises like :meth:`write`."""
        return await self._reader.run(lambda: self._query(work))

    async def close(self) -> None:
        """Close both connections; the shared writer stays."""
        write, self._write_connection = self._write_connection, None
        read, self._read_connection = self._read_connection, None
        if read is not None:
            await self._reader.run(read.close)
        if write is not None:
            await self._writer.run(write.close)
        await self._reader.close()

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._write_connection
        if connection is None:
            raise StoreClosedError(f"{self.path}: closed")
        try:
            with connection:  # commits, or rolls back on any error
                connection.execute("BEGIN IMMEDIATE")
                return work(connection)
        except sqlite3.DatabaseError as error:
            raise _in_words(self.path, error) from error

    def _query(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._read_connection is None:
            raise StoreClosedError(f"{self.path}: closed")
        try:
            return work(self._read_connection)
        except sqlite3.DatabaseError as error:
            raise _in_words(self.path, error) from error


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if not path.exists():
        raise SchemaMissingError(
            f"{path}: there is no database; run python -m agent.store.schema {path.parent}"
        )
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
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
