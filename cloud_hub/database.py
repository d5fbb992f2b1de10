"""The database: SQLite in a file, or PostgreSQL by URL. Writes stand in one line, readers beside them.

SQLite takes one writer at a time. Every write of this process goes through one thread and one connection, in a
transaction that starts as a writer (``BEGIN IMMEDIATE``), so that it never fails half-way for want of the lock.

PostgreSQL takes many. What decides by what it has read (rollouts, the audit log's chain) would go wrong there without a word,
so :meth:`Database.write` stands in line on PostgreSQL too, all processes of a hub behind one advisory lock.
:meth:`Database.append` is for rows that depend on no others: it needs no line.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import BigInteger, Engine, Integer, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Session

from cloud_hub.database_url import check_url
from cloud_hub.errors import ConfigError

T = TypeVar("T")
BUSY_TIMEOUT_MS = 10_000
CACHE_KIB = 32 * 1024
"""SQLite's pages in memory, a connection: the records of a thousand devices go to a thousand places of a tree."""
CHECKPOINT_PAGES = 8_000
"""32 MiB of log between two checkpoints: a page that many commits wrote goes to its place once."""
WRITERS_LOCK = 0x6564676577617264
"""``edgeward``: the advisory lock of those who write in line."""

Whole = BigInteger().with_variant(Integer(), "sqlite")
"""A whole number of 64 bits; SQLite's own are of that size, and it counts a key up only if it is called so."""


class Base(DeclarativeBase):
    """Parent of every table."""

    type_annotation_map = {int: Whole}  # noqa: RUF012 - SQLAlchemy reads it so


class Database:
    """Sessions on ``place``: a path of an SQLite file, or PostgreSQL's URL.

    ``read`` may be called from any thread, ``write`` waits for the writer thread.

    Raises:
        ConfigError: the URL can't be read.
    """

    def __init__(self, place: Path | str) -> None:
        self.sqlite = isinstance(place, Path)
        if isinstance(place, Path):
            self._readers = _sqlite(place, "BEGIN")
            self._writer = self._appender = _sqlite(place, "BEGIN IMMEDIATE")
        else:
            self._readers = _postgresql(place, isolation_level="REPEATABLE READ")
            self._writer = _postgresql(place, pool_size=1, max_overflow=1)
            self._appender = _postgresql(place, pool_size=1, max_overflow=1)
            event.listen(self._writer, "begin", _stand_in_line)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub-writer")
        self._writer_id = self._thread.submit(get_ident).result()

    def migrate(self) -> None:
        """Bring the schema to the newest version.

        Raises:
            ConfigError: PostgreSQL doesn't answer, or can't hold every text.
        """
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        try:
            with self._writer.connect() as connection:
                if not self.sqlite:
                    _require_utf8(str(connection.exec_driver_sql("SHOW server_encoding").scalar_one()))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except OperationalError as error:
            if self.sqlite:
                raise
            raise ConfigError(f"database: PostgreSQL does not take the hub: {error.orig}") from error

    def read(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction that is not kept: one consistent look."""
        with Session(self._readers, expire_on_commit=False) as session:
            return work(session)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` on the writer thread and commit; an error of ``work`` rolls back and comes out here."""
        if get_ident() == self._writer_id:
            raise RuntimeError("Database.write called from inside a write: it would wait for itself")
        return self._thread.submit(_transact, self._writer, work).result()

    def append(self, work: Callable[[Session], T]) -> T:
        """As :meth:`write`, for work whose order among other writes means nothing; on PostgreSQL it goes beside them."""
        return self.write(work) if self.sqlite else _transact(self._appender, work)

    def close(self) -> None:
        """Finish the write that is under way and let the file go."""
        self._thread.shutdown(wait=True)
        self._writer.dispose()
        self._appender.dispose()
        self._readers.dispose()


def _transact(engine: Engine, work: Callable[[Session], T]) -> T:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session)


def _postgresql(url: str, **options: Any) -> Engine:
    check_url(url)
    try:
        return create_engine(url, pool_pre_ping=True, connect_args={"client_encoding": "utf8"}, **options)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"database: {error.name} is not installed; PostgreSQL needs: pip install 'edgeward[hub,postgresql]'"
        ) from error


def _stand_in_line(connection: Any) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")


def _require_utf8(encoding: str) -> None:
    if encoding != "UTF8":
        raise ConfigError(
            f"database: its encoding is {encoding}, and must be UTF8: createdb --encoding=UTF8 --template=template0 NAME"
        )


def _sqlite(path: Path, begin: str) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",  # an acknowledgement to a device is a promise
            f"cache_size=-{CACHE_KIB}",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
