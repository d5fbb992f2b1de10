"""The database: one writer thread, many readers.

SQLite takes one writer at a time. Every write of this process goes through one thread and one connection, in a
transaction that starts as a writer (``BEGIN IMMEDIATE``), so that it never fails half-way for want of the lock.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import DeclarativeBase, Session

T = TypeVar("T")
BUSY_TIMEOUT_MS = 10_000


class Base(DeclarativeBase):
    """Parent of every table."""


class Database:
    """Sessions on ``url``; ``read`` may be called from any thread, ``write`` waits for the writer thread."""

    def __init__(self, path: Path) -> None:
        self._url = f"sqlite:///{path}"
        self._readers = _engine(self._url, "BEGIN")
        self._writer = _engine(self._url, "BEGIN IMMEDIATE")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub-writer")
        self._writer_id = self._thread.submit(get_ident).result()

    def migrate(self) -> None:
        """Bring the schema to the newest version."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self._writer.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def read(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction that is not kept."""
        with Session(self._readers, expire_on_commit=False) as session:
            return work(session)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` on the writer thread and commit; an error of ``work`` rolls back and comes out here."""
        if get_ident() == self._writer_id:
            raise RuntimeError("Database.write called from inside a write: it would wait for itself")
        return self._thread.submit(self._transact, work).result()

    def _transact(self, work: Callable[[Session], T]) -> T:
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            return work(session)

    def close(self) -> None:
        """Finish the write that is under way and let the file go."""
        self._thread.shutdown(wait=True)
        self._writer.dispose()
        self._readers.dispose()


def _engine(url: str, begin: str) -> Engine:
    engine = create_engine(url, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",  # an acknowledgement to a device is a promise
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
