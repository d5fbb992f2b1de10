"""A few small values by key, kept twice: an SQLite file and a checksummed mirror file. Never reset in silence.

For what a device must not lose (trust, update state). A write is one transaction (rollback journal,
``synchronous=EXTRA``) and then a durable mirror file; both carry a generation that grows by one with each write, and
the database is the newer one by at most the write that a crash interrupted. On opening:

=================  =================  ==========================================================
database           mirror             what happens
=================  =================  ==========================================================
absent             absent             an empty store: enrolment has not been, or all was removed
good               good               the one with the higher generation is taken
good               absent or damaged  the mirror is written again
absent or damaged  good               the database is set aside and made again from the mirror
damaged            absent or damaged  :class:`DamagedError`: a person decides
absent             damaged            :class:`DamagedError`: a person decides
=================  =================  ==========================================================

An empty database *file* counts as damaged, for a power cut can leave one where much was before. Where a full or read-only
disk does not let the damaged one be made again, the good one's content is held in memory, so that the device can serve; the
first write that the disk takes repairs both.
"""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from agent.store.durable_file import make_folder, move_durable, write_durable
from agent.store.errors import DamagedError, StoreClosedError
from agent.store.quarantine import quarantine
from agent.store.sealed import read_sealed, seal

_SCHEMA = """
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL, updated TEXT NOT NULL) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE VIEW state_readable AS SELECT key, CAST(value AS TEXT) AS value, updated FROM state;
"""
_MAGIC = b"edgeward-mirror-1\n"
_MODE = 0o600


class _Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Content of the mirror file: magic, SHA-256 of the rest, msgpack of this."""

    generation: int
    values: dict[str, bytes]


class MirroredStore:
    """Bytes by key, durable and mirrored; synchronous, to be used from one thread.

    Args:
        path: the database; its mirror is ``<name>.mirror`` beside it.

    Raises:
        DamagedError: neither the database nor the mirror can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mirror_path = path.with_name(f"{path.name}.mirror")
        self.restored: str | None = None
        """Set when opening had to repair something: what, in words, for an event."""
        self.problem: str | None = None
        """Set while one of both could not be repaired because the disk refuses: what, in words."""
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._current = self._recover()

    def get(self, key: str) -> bytes | None:
        return self._current.values.get(key)

    def values(self) -> dict[str, bytes]:
        """Everything, as a copy."""
        return dict(self._current.values)

    @property
    def generation(self) -> int:
        """How many writes there have been; 0: never written."""
        return self._current.generation

    def write(self, changes: Mapping[str, bytes | None]) -> None:
        """Set (or, by ``None``, remove) values, all or none; durable in both files when this returns.

        Raises:
            OSError, sqlite3.Error: the disk is full or broken; nothing has changed, or (where the database took it and
                the mirror did not) the change holds and the mirror follows at the next opening.
        """
        if not changes:
            return
        if self._connection is None and not self._closed:  # what opening could not repair
            self._rebuild(self._current)
        merged = {**self._current.values, **changes}
        snapshot = _Snapshot(
            generation=self._current.generation + 1,
            values={key: value for key, value in merged.items() if value is not None},
        )
        self._store(snapshot, changes)
        self._current = snapshot
        self._write_mirror(snapshot)
        self.problem = None

    def close(self) -> None:
        self._closed = True
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _recover(self) -> _Snapshot:
        database, database_problem = self._read_database()
        mirror, mirror_problem = self._read_mirror()
        if database is None and mirror is None:
            if database_problem is None and mirror_problem is None:
                return self._rebuild(_Snapshot(generation=0, values={}))
            self._disconnect()
            raise DamagedError(
                f"{self.path}: {database_problem or 'absent'}; its mirror {self.mirror_path}: "
                f"{mirror_problem or 'absent'}. Nothing was changed. Restore one of them, or enrol this device anew"
            )
        if mirror is not None and (database is None or database.generation < mirror.generation):
            problem = database_problem or ("absent" if database is None else "older than its mirror")
            self._disconnect()
            self.restored = f"{self.path.name} was {problem}; restored from its mirror"
            try:
                return self._rebuild(mirror)
            except (OSError, sqlite3.Error) as error:
                self.problem = (
                    f"{self.path.name} was {problem}, its mirror is used, and it can't be made again: {error}"
                )
                return mirror
        if database is None:  # only both-None reaches this with no mirror, and that ended above
            raise AssertionError
        if mirror is None or mirror.generation < database.generation:
            if mirror_problem is not None:
                self.restored = f"{self.mirror_path.name} was {mirror_problem}; written again"
            try:
                self._write_mirror(database)
            except OSError as error:
                self.problem = f"{self.mirror_path.name} can't be written: {error}"
        return database

    def _rebuild(self, snapshot: _Snapshot) -> _Snapshot:
        """Set any database aside and make a new one of ``snapshot``, whole before it has its name."""
        try:
            self._make_anew(snapshot)
        except BaseException:
            self._disconnect()
            raise
        return snapshot

    def _make_anew(self, snapshot: _Snapshot) -> None:
        quarantine(self.path)
        make_folder(self.path.parent)
        fresh = self.path.with_name(f".{self.path.name}.new")
        for leftover in (fresh, fresh.with_name(f"{fresh.name}-journal")):
            leftover.unlink(missing_ok=True)
        self._connection = _connect(fresh)
        self._connection.executescript(_SCHEMA)
        self._store(snapshot, snapshot.values)
        self._disconnect()
        fresh.chmod(_MODE)
        move_durable(fresh, self.path)
        self._connection = _connect(self.path)
        self._write_mirror(snapshot)

    def _store(self, snapshot: _Snapshot, changes: Mapping[str, bytes | None]) -> None:
        if self._connection is None:
            raise StoreClosedError(f"{self.path}: closed")
        connection = self._connection
        with connection:  # commits, or rolls back on any error
            connection.execute("BEGIN IMMEDIATE")
            for key, value in changes.items():
                if value is None:
                    connection.execute("DELETE FROM state WHERE key = ?", (key,))
                else:
                    connection.execute(
                        "INSERT OR REPLACE INTO state VALUES (?, ?, datetime('now'))", (key, value)
                    )
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('generation', ?)", (snapshot.generation,))

    def _read_database(self) -> tuple[_Snapshot | None, str | None]:
        """The database's content, or what is wrong with it (nothing, where it is absent)."""
        if not self.path.exists():
            return None, None
        try:
            self._connection = _connect(self.path)
            (verdict,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                return None, f"damaged ({verdict})"
            row = self._connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
            if row is None:
                return None, "damaged (no generation)"
            values = dict(self._connection.execute("SELECT key, value FROM state"))
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "unable to open" in str(error):
                raise
            return None, f"damaged ({error})"
        except sqlite3.DatabaseError as error:
            return None, f"damaged ({error})"
        return _Snapshot(generation=row[0], values=values), None

    def _read_mirror(self) -> tuple[_Snapshot | None, str | None]:
        body, problem = read_sealed(_MAGIC, self.mirror_path)
        if body is None:
            return None, problem
        try:
            return msgspec.msgpack.decode(body, type=_Snapshot), None
        except msgspec.DecodeError as error:
            return None, f"damaged ({error})"

    def _write_mirror(self, snapshot: _Snapshot) -> None:
        write_durable(self.mirror_path, seal(_MAGIC, msgspec.msgpack.encode(snapshot)), mode=_MODE)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute("PRAGMA synchronous = EXTRA")  # syncs the folder too when the journal goes
    except BaseException:
        connection.close()
        raise
    return connection
