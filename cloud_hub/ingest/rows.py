"""The statements of ingest, many rows each, in the words of both databases.

They go to the driver as they are: SQLAlchemy's own way with the parameters of each row took as long as storing it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, CursorResult, select, tuple_
from sqlalchemy.orm import Session

from cloud_hub.database import Base
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryRecord, TelemetryTally

Key = tuple[str, str, int]
"""Device, epoch, sequence."""
RecordRow = tuple[str, str, int, str, float, bytes | None]
"""Device, epoch, sequence, kind, received, body."""

KEYS_A_QUERY = 300
"""SQLite takes so many: a key is three values, and a statement had at most 999 of them for long."""

_TYPES = {bool: "boolean", bytes: "bytea", float: "float8", int: "bigint", str: "text"}


class _Insert:
    """``INSERT`` of many rows: SQLite is given them one by one, PostgreSQL a column at a time, in one statement."""

    def __init__(self, table: type[Base], then: str = "") -> None:
        columns = table.__table__.columns
        self.columns = tuple(column.name for column in columns)
        head = f"INSERT INTO {table.__tablename__} ({', '.join(map(_quoted, self.columns))})"
        self._rows = f"{head} VALUES ({', '.join('?' * len(self.columns))}) {then}"
        arrays = ", ".join(f"%s::{_TYPES[column.type.python_type]}[]" for column in columns)
        self._columns = f"{head} SELECT * FROM unnest({arrays}) {then}"  # noqa: S608 - names of our columns

    def rows(self, connection: Connection, values: Sequence[tuple[object, ...]]) -> int:
        """How many were inserted; on SQLite."""
        if not values:
            return 0
        options = {"preserve_rowcount": True}
        return connection.exec_driver_sql(self._rows, list(values), execution_options=options).rowcount

    def returning(
        self, connection: Connection, values: Sequence[tuple[object, ...]], columns: str
    ) -> "CursorResult[Any]":
        """Columns of those that were inserted; on PostgreSQL."""
        by_column = tuple(list(column) for column in zip(*values, strict=True))
        return connection.exec_driver_sql(f"{self._columns} RETURNING {columns}", by_column)

    def __call__(self, session: Session, values: Sequence[tuple[object, ...]]) -> None:
        """On either."""
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            self.rows(connection, values)
        elif values:
            self.returning(connection, values, "1")


def _quoted(name: str) -> str:
    return f'"{name}"'


_records = _Insert(TelemetryRecord, "ON CONFLICT DO NOTHING")
_tally = _Insert(
    TelemetryTally,
    "ON CONFLICT (device, epoch, kind) DO UPDATE SET records = telemetry_tally.records + excluded.records",
)
insert_windows = _Insert(DriftWindowRow)
"""Windows of records that are new; a row has :data:`WINDOW_COLUMNS`."""
WINDOW_COLUMNS = insert_windows.columns


def insert_new(session: Session, values: Sequence[RecordRow]) -> set[Key]:
    """Insert the records whose key is not taken; the keys that were."""
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return _insert_sqlite(session, connection, values)
    if not values:
        return set()
    inserted = _records.returning(connection, values, "device, epoch, sequence")
    return {row[:3] for row in values}.difference(tuple(row) for row in inserted)


def _insert_sqlite(session: Session, connection: Connection, values: Sequence[RecordRow]) -> set[Key]:
    """Nearly always every record is new; so that is tried first, and only otherwise asked which are not."""
    point = connection.begin_nested()
    if _records.rows(connection, values) == len(values):
        point.commit()
        return set()
    point.rollback()
    known = {key for keys in _chunks({row[:3] for row in values}) for key in _known(session, keys)}
    _records.rows(connection, [row for row in values if row[:3] not in known])
    return known


def _known(session: Session, keys: Sequence[Key]) -> Iterator[Key]:
    table = TelemetryRecord
    columns = (table.device, table.epoch, table.sequence)
    for row in session.execute(select(*columns).where(tuple_(*columns).in_(keys))):
        yield row[0], row[1], row[2]


def bodies(session: Session, keys: set[Key]) -> Iterator[tuple[Key, bytes]]:
    """What is stored under these keys, but for windows."""
    table = TelemetryRecord
    columns = (table.device, table.epoch, table.sequence)
    for chunk in _chunks(keys):
        query = select(*columns, table.body).where(tuple_(*columns).in_(chunk), table.body.is_not(None))
        for device, epoch, sequence, body in session.execute(query):
            yield (device, epoch, sequence), bytes(body or b"")


def windows(session: Session, keys: set[Key]) -> Iterator[tuple[Key, bytes]]:
    """The windows that are stored under these keys."""
    table = DriftWindowRow
    columns = (table.device, table.epoch, table.sequence)
    for chunk in _chunks(keys):
        for device, epoch, sequence, window in session.execute(
            select(*columns, table.window).where(tuple_(*columns).in_(chunk))
        ):
            yield (device, epoch, sequence), bytes(window)


def add_to_tally(session: Session, counts: Counter[tuple[str, str, str]]) -> None:
    """Add to (device, epoch, kind) → records; sorted, as the records are."""
    _tally(session, [(*key, count) for key, count in sorted(counts.items())])


def _chunks(keys: set[Key]) -> Iterator[list[Key]]:
    ordered = iter(sorted(keys))
    while chunk := list(islice(ordered, KEYS_A_QUERY)):
        yield chunk
