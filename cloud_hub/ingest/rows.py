"""The statements of ingest, many rows each, in the words of both databases.

They go to the driver as they are: SQLAlchemy's own way with the parameters of each row took as long as storing it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.orm import Session

from cloud_hub.telemetry.models import DriftWindowRow, TelemetryRecord

Key = tuple[str, str, int]
"""Device, epoch, sequence."""
RecordRow = tuple[str, str, int, str, float, bytes | None]
"""Device, epoch, sequence, kind, received, body."""

KEYS_A_QUERY = 300
"""SQLite takes so many: a key is three values, and a statement had at most 999 of them for long."""

_INSERT_SQLITE = "INSERT INTO telemetry (device, epoch, sequence, kind, received, body) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INSERT_POSTGRESQL = (
    "INSERT INTO telemetry (device, epoch, sequence, kind, received, body) "
    "SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::float8[], %s::bytea[]) "
    "ON CONFLICT DO NOTHING RETURNING device, epoch, sequence"
)
WINDOW_COLUMNS = tuple(column.name for column in DriftWindowRow.__table__.columns)
_QUOTED = ", ".join(f'"{name}"' for name in WINDOW_COLUMNS)
_INSERT_WINDOW = f"INSERT INTO drift_windows ({_QUOTED}) VALUES ({{}})"  # noqa: S608 - names of our columns
_TALLY = (
    "INSERT INTO telemetry_tally (device, epoch, kind, records) VALUES ({0}, {0}, {0}, {0}) "
    "ON CONFLICT (device, epoch, kind) DO UPDATE SET records = telemetry_tally.records + excluded.records"
)


def insert_new(session: Session, values: Sequence[RecordRow]) -> set[Key]:
    """Insert the records whose key is not taken; the keys that were."""
    if not values:
        return set()
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return _insert_sqlite(session, connection, values)
    columns = tuple([row[place] for row in values] for place in range(6))
    inserted = connection.exec_driver_sql(_INSERT_POSTGRESQL, columns)
    return {row[:3] for row in values}.difference(tuple(row) for row in inserted)


def _insert_sqlite(session: Session, connection: Connection, values: Sequence[RecordRow]) -> set[Key]:
    """Nearly always every record is new; so that is tried first, and only otherwise asked which are not."""
    point = connection.begin_nested()
    if _count(connection, values) == len(values):
        point.commit()
        return set()
    point.rollback()
    known = {key for keys in _chunks({row[:3] for row in values}) for key in _known(session, keys)}
    _count(connection, [row for row in values if row[:3] not in known])
    return known


def _count(connection: Connection, values: Sequence[RecordRow]) -> int:
    if not values:
        return 0
    options = {"preserve_rowcount": True}
    return connection.exec_driver_sql(_INSERT_SQLITE, list(values), execution_options=options).rowcount


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


def insert_windows(session: Session, values: Sequence[tuple[object, ...]]) -> None:
    """Insert windows of records that are new; a row has :data:`WINDOW_COLUMNS`."""
    if values:
        connection = session.connection()
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        connection.exec_driver_sql(
            _INSERT_WINDOW.format(", ".join([mark] * len(WINDOW_COLUMNS))), list(values)
        )


def add_to_tally(session: Session, counts: Counter[tuple[str, str, str]]) -> None:
    """Add to (device, epoch, kind) → records."""
    if counts:
        connection = session.connection()
        statement = _TALLY.format("?" if connection.dialect.name == "sqlite" else "%s")
        connection.exec_driver_sql(statement, [(*key, count) for key, count in sorted(counts.items())])


def _chunks(keys: set[Key]) -> Iterator[list[Key]]:
    ordered = iter(sorted(keys))
    while chunk := list(islice(ordered, KEYS_A_QUERY)):
        yield chunk
