"""Records that wait until the hub has committed them, and the ledger that accounts for every one.

``recorded == acknowledged + pending + dropped`` holds after each transaction. What is dropped is counted by kind: for space
(``event``, ``health``, ``window``), ``oversized`` (larger than one record may be), ``refused`` (the hub can never
store it), ``unreadable`` (no longer decodable).
"""

import sqlite3
import time
from collections.abc import Callable, Iterable

import msgspec

from agent.protocol.codec import encode_json
from agent.protocol.ids import Name
from agent.protocol.limits import MAX_BATCH_RECORDS, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES
from agent.protocol.state import OutboxReport
from agent.protocol.telemetry import Body, Event, Record, TelemetryAck, TelemetryBatch, Window
from agent.store.database import Database
from agent.store.events import insert_event
from agent.store.windows import insert_window

KEEP_QUARANTINED = 16
PRIORITY = {"sample": 0, "health": 1, "event": 2, "sample-answer": 2, "accuracy": 3, "window": 4}
"""Kind → rank; over the bound the lowest rank goes first, and of one rank the oldest."""

_ENVELOPE_BYTES = 1024
"""More than a batch takes beside its records."""
_RECORD_EXTRA_BYTES = 40
"""More than a record takes beside its body: field names, sequence, comma."""
_REFUSED_SHOWN = 300

_decode_body: Callable[[bytes], Body] = msgspec.json.Decoder(Body).decode


class Outbox:
    """The outbox of one device.

    Args:
        database: where it lives, together with the local log of events and windows.
        device: device id, for the batches.
        maximum_bytes: bound of the pending records' bodies.
    """

    def __init__(self, database: Database, *, device: Name, maximum_bytes: int) -> None:
        self._database = database
        self._device = device
        self._maximum = maximum_bytes
        self._in_flight: frozenset[int] = frozenset()

    async def append(self, body: Body) -> int:
        """Record ``body`` here and for the hub, in one transaction; returns its sequence.

        An event also goes to the local log, a drift window also to the local windows. A body that is too large to
        send is kept in ``quarantine`` and counted; one for which there is no room is counted by its kind.

        Raises:
            DamagedError: the database is broken.
            sqlite3.Error: the disk is full; nothing was recorded.
        """
        now = time.time()
        return await self._database.write(lambda connection: self._append(connection, body, now))

    async def next_batch(self, maximum_bytes: int = MAX_MESSAGE_BYTES) -> TelemetryBatch | None:
        """The oldest pending records, as many as fit ``maximum_bytes`` of JSON; None when nothing waits.

        They stay pending until :meth:`acknowledge`; asked again, the same records come again.

        Raises:
            ValueError: ``maximum_bytes`` could not hold every record that is allowed.
        """
        if maximum_bytes < MAX_RECORD_BYTES + _ENVELOPE_BYTES + _RECORD_EXTRA_BYTES:
            raise ValueError(f"maximum_bytes={maximum_bytes}: less than one record may need")
        rows, epoch = await self._database.read(lambda connection: _head(connection, maximum_bytes))
        records: list[Record] = []
        unreadable: list[int] = []
        for sequence, body in rows:
            try:
                records.append(Record(sequence=sequence, body=_decode_body(body)))
            except (msgspec.DecodeError, UnicodeDecodeError):
                unreadable.append(sequence)
        if unreadable:
            await self._database.write(
                lambda connection: _quarantine(connection, unreadable, "unreadable", "can't be decoded")
            )
            return await self.next_batch(maximum_bytes)
        self._in_flight = frozenset(record.sequence for record in records)
        if not records:
            return None
        return TelemetryBatch(device=self._device, epoch=epoch, records=tuple(records))

    async def acknowledge(self, ack: TelemetryAck) -> None:
        """Let go of what the hub has, and of what it can never take; other epochs and repeated sequences are ignored."""
        await self._database.write(lambda connection: _acknowledge(connection, ack))

    async def report(self) -> OutboxReport:
        """The ledger."""
        return await self._database.read(_report)

    def _append(self, connection: sqlite3.Connection, body: Body, now: float) -> int:
        kind = _kind(body)
        sequence = _count(connection, "recorded")
        data = encode_json(body, limit=MAX_FRAME_BYTES)
        unfit = _unfit(data)
        if unfit is not None:
            counter, reason = unfit
            _count(connection, f"dropped:{counter}")
            _keep(connection, sequence, kind, reason, now, data)
            return sequence
        if isinstance(body, Event):
            insert_event(connection, body)
        elif isinstance(body, Window):
            insert_window(connection, body.window)
        connection.execute(
            "INSERT INTO outbox (sequence, kind, priority, size, recorded, body) VALUES (?, ?, ?, ?, ?, ?)",
            (sequence, kind, PRIORITY[kind], len(data), now, data),
        )
        _count(connection, "pending_bytes", len(data))
        self._make_room(connection)
        return sequence

    def _make_room(self, connection: sqlite3.Connection) -> None:
        """Drop the least important records until the bound holds; those that are on their way to the hub go last."""
        excess = _counter(connection, "pending_bytes") - self._maximum
        if excess <= 0:
            return
        doomed: list[tuple[int, str, int]] = []
        for in_flight in (False, True):
            rows = connection.execute("SELECT sequence, kind, size FROM outbox ORDER BY priority, sequence")
            for sequence, kind, size in rows:
                if excess <= 0:
                    break
                if (sequence in self._in_flight) is in_flight:
                    doomed.append((sequence, kind, size))
                    excess -= size
        for sequence, kind, size in doomed:
            connection.execute("DELETE FROM outbox WHERE sequence = ?", (sequence,))
            _count(connection, f"dropped:{kind}")
            _count(connection, "pending_bytes", -size)


def _kind(body: Body) -> str:
    return str(body.__struct_config__.tag)


def _unfit(data: bytes) -> tuple[str, str] | None:
    """Why an encoded body can never be sent (ledger's kind, words), if it can't."""
    if len(data) + _RECORD_EXTRA_BYTES > MAX_RECORD_BYTES:
        return "oversized", f"{len(data)} bytes, at most {MAX_RECORD_BYTES - _RECORD_EXTRA_BYTES} are allowed"
    try:
        _decode_body(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # for instance a NaN, which JSON does not have
        return "unreadable", str(error)
    return None


def _count(connection: sqlite3.Connection, name: str, by: int = 1) -> int:
    """Add to a counter; returns its new value."""
    row = connection.execute(
        "INSERT INTO counters (name, value) VALUES (?1, ?2) "
        "ON CONFLICT (name) DO UPDATE SET value = value + ?2 RETURNING value",
        (name, by),
    ).fetchone()
    return int(row[0])


def _counter(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def _epoch(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])


def _head(connection: sqlite3.Connection, maximum_bytes: int) -> tuple[list[tuple[int, bytes]], str]:
    room = maximum_bytes - _ENVELOPE_BYTES
    rows: list[tuple[int, bytes]] = []
    query = "SELECT sequence, body FROM outbox ORDER BY sequence LIMIT ?"
    for sequence, body in connection.execute(query, (MAX_BATCH_RECORDS,)):
        room -= len(body) + _RECORD_EXTRA_BYTES
        if room < 0:
            break
        rows.append((sequence, body))
    return rows, _epoch(connection)


def _acknowledge(connection: sqlite3.Connection, ack: TelemetryAck) -> None:
    if ack.epoch != _epoch(connection):
        return
    refused = {int(text): reason for text, reason in ack.refused.items() if text.isdecimal()}
    for sequence, reason in refused.items():
        _quarantine(connection, [sequence], "refused", reason[:_REFUSED_SHOWN])
    for sequence in ack.sequences:
        if sequence in refused:
            continue
        row = connection.execute(
            "DELETE FROM outbox WHERE sequence = ? RETURNING size", (sequence,)
        ).fetchone()
        if row is not None:
            _count(connection, "acknowledged")
            _count(connection, "pending_bytes", -row[0])


def _quarantine(connection: sqlite3.Connection, sequences: Iterable[int], counter: str, reason: str) -> None:
    """Move pending records that can never be sent aside, and count them."""
    for sequence in sequences:
        row = connection.execute(
            "DELETE FROM outbox WHERE sequence = ? RETURNING kind, size, recorded, body", (sequence,)
        ).fetchone()
        if row is None:
            continue
        kind, size, recorded, body = row
        _count(connection, f"dropped:{counter}")
        _count(connection, "pending_bytes", -size)
        _keep(connection, sequence, kind, reason, recorded, body)


def _keep(
    connection: sqlite3.Connection, sequence: int, kind: str, reason: str, recorded: float, body: bytes
) -> None:
    """Keep the newest quarantined records for a person: a few, and of each what one message could hold."""
    connection.execute(
        "INSERT INTO quarantine (sequence, kind, reason, size, recorded, body) VALUES (?, ?, ?, ?, ?, ?)",
        (sequence, kind, reason, len(body), recorded, body[:MAX_MESSAGE_BYTES]),
    )
    _count(connection, "quarantined")
    connection.execute(
        "DELETE FROM quarantine WHERE sequence NOT IN (SELECT sequence FROM quarantine ORDER BY sequence DESC LIMIT ?)",
        (KEEP_QUARANTINED,),
    )


def _report(connection: sqlite3.Connection) -> OutboxReport:
    connection.execute("BEGIN")  # one snapshot, so that the ledger adds up
    try:
        counters = dict(connection.execute("SELECT name, value FROM counters").fetchall())
        (pending,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
        epoch = _epoch(connection)
    finally:
        connection.execute("COMMIT")
    prefix = "dropped:"
    return OutboxReport(
        epoch=epoch,
        recorded=counters.get("recorded", 0),
        acknowledged=counters.get("acknowledged", 0),
        pending=pending,
        dropped={name.removeprefix(prefix): n for name, n in counters.items() if name.startswith(prefix)},
        quarantined=counters.get("quarantined", 0),
    )
