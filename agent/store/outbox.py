"""Records that wait until the hub has committed them, and the ledger that accounts for every one.

``recorded == acknowledged + pending + dropped + merged`` holds after each transaction. What is dropped is counted by kind: for
space (``event``, ``health``, ``window``, …), ``oversized`` (larger than one record may be), ``refused`` (the hub can never
store it), ``unreadable`` (no longer decodable), ``withheld`` (it stays here, for privacy), ``cleared`` (samples taken back). What is merged (:mod:`agent.store.thinning`) is counted by kind too.

A record is marked as offered, durably, before it is first handed out: from then on the hub may have it, so it never changes.
"""

import sqlite3
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from agent.core.sending import LADDER, Spans
from agent.protocol.codec import encode_msgpack
from agent.protocol.drift import CountPrivacy
from agent.protocol.ids import Name
from agent.protocol.limits import MAX_BATCH_RECORDS, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES
from agent.protocol.runner import WindowClosed
from agent.protocol.state import OutboxReport
from agent.protocol.telemetry import Body, Event, Health, Record, Sample, TelemetryAck, TelemetryBatch, Window
from agent.store.counters import count, counter, epoch
from agent.store.database import Database
from agent.store.dropping import drop, keep_for_a_person, set_aside
from agent.store.events import insert_event
from agent.store.health import insert_health
from agent.store.history import Keep, trim
from agent.store.importance import URGENT, rank
from agent.store.open_windows import forget_open, take_open
from agent.store.release_privacy import asked_for
from agent.store.sample_ledger import has_left, note_acknowledged, note_left
from agent.store.thinning import decode_body, encode_body, thin, thin_rank
from agent.store.windows import insert_closed

Recordable = Body | WindowClosed
"""A window comes with its signals' verdicts and its drift state, which stay on the device; alone, it has none."""

Outgoing = Callable[[Body, CountPrivacy | None], Body | None]
"""A record, and what its release asks for of its counts → what may leave of it; None: it stays, counted as ``withheld``."""

KEEP = Keep(bytes=64 * 1024 * 1024, days=90.0)
TRIM_SECONDS = 3_600.0
TRIM_RECORDS = 512
"""The history is brought within its bounds after so much time or so many records, and at the first record."""
RENEW_SECONDS = 7 * 86_400.0
"""A record that was never offered for so long gets a new sequence, and is counted as one that went into another: the hub forgets
old records from the lowest sequence on, and must not take a late one for one of these."""
SAMPLES = ("sample", "sample-answer")
"""Kinds that :mod:`agent.store.sample_ledger` knows by their sequence."""
LOOK_AGAIN = 64
"""Records until a full outbox that had nothing to merge is looked through again."""

_ENVELOPE_BYTES = 1024
"""More than a batch takes beside its records."""
_RECORD_EXTRA_BYTES = 40
"""More than a record takes beside its body: field names, sequence."""
_REFUSED_SHOWN = 300


class Outbox:
    """The outbox of one device.

    Args:
        database: where it lives, together with the local history of events, windows and health.
        device: device id, for the batches.
        maximum_bytes: bound of the pending records' bodies.
        keep: bounds of the local history.
        clock: Unix seconds.
        outgoing: what may leave of a record; the history has it whole.
    """

    def __init__(
        self,
        database: Database,
        *,
        device: Name,
        maximum_bytes: int,
        keep: Keep = KEEP,
        clock: Callable[[], float] = time.time,
        outgoing: Outgoing = lambda body, _release: body,
    ) -> None:
        self._database = database
        self._device = device
        self._maximum = maximum_bytes
        self._keep = keep
        self._clock = clock
        self._outgoing = outgoing
        self._trimmed: tuple[float, int] | None = None
        self._nothing_to_merge: int | None = None
        self.appended: Callable[[bool], None] = lambda _urgent: None
        """Told after each :meth:`append`, whether something urgent was in it."""

    async def append(self, *bodies: Recordable) -> tuple[int, ...]:
        """Record ``bodies`` here and for the hub, in one transaction; returns their sequences.

        Events, windows and health also go to the local history. A body that is too large to send is kept in
        ``quarantine`` and counted (of these, only windows go to the history); one for which there is no room is counted by its kind.

        Raises:
            DamagedError: the database is broken.
            sqlite3.Error: the disk is full; nothing was recorded.
        """
        now = self._clock()
        sequences = await self._database.write(lambda connection: self._append(connection, bodies, now))
        self.appended(any(rank(_sent(body)) in URGENT for body in bodies))
        return sequences

    async def next_batch(
        self,
        maximum_bytes: int = MAX_MESSAGE_BYTES,
        *,
        maximum_records: int = MAX_BATCH_RECORDS,
        urgent_only: bool = False,
        settled_before: Spans | None = None,
    ) -> TelemetryBatch | None:
        """The most important pending records, of one rank the oldest first; None when nothing waits that may be sent.

        They stay pending until :meth:`acknowledge`; asked again, the same records come again.

        Args:
            maximum_bytes: of the batch as msgpack.
            maximum_records: at most.
            urgent_only: leave everything else.
            settled_before: leave windows and health that were recorded since these moments, Unix seconds.

        Raises:
            ValueError: ``maximum_bytes`` could not hold every record that is allowed.
        """
        if maximum_bytes < MAX_RECORD_BYTES + _ENVELOPE_BYTES:
            raise ValueError(f"maximum_bytes={maximum_bytes}: less than one record may need")
        now = self._clock()
        where = _urgent() if urgent_only else _settled(settled_before, now)

        def take(connection: sqlite3.Connection) -> tuple[str, tuple[Record, ...]]:
            return epoch(connection), _take(connection, where, maximum_bytes, maximum_records, now)

        name, records = await self._database.write(take)
        return TelemetryBatch(device=self._device, epoch=name, records=records) if records else None

    async def acknowledge(self, ack: TelemetryAck) -> None:
        """Let go of what the hub has, and of what it can never take; other epochs and repeated sequences are ignored."""
        await self._database.write(lambda connection: _acknowledge(connection, ack))

    async def close_left_open(self) -> int:
        """Record, as incomplete, the windows that were open when the agent was last killed; returns how many.

        Before the first runner starts, and each exactly once, whenever it is killed again.
        """
        now = self._clock()

        def close(connection: sqlite3.Connection) -> int:
            left = take_open(connection)
            self._append(connection, left, now)
            return len(left)

        return await self._database.write(close)

    async def forget_samples(self) -> int:
        """Drop samples that wait for the hub: their owner does not let them go any more; counted as ``cleared``."""
        return await self._database.write(_forget_samples)

    async def thin(self, spans: Spans) -> int:
        """Merge waiting records that are not urgent; returns how many went into others."""
        return await self._database.write(lambda connection: thin(connection, spans))

    async def report(self) -> OutboxReport:
        """The ledger."""
        return await self._database.read(_report)

    def _append(
        self, connection: sqlite3.Connection, bodies: Sequence[Recordable], now: float
    ) -> tuple[int, ...]:
        sequences = tuple(_insert(connection, body, now, self._outgoing) for body in bodies)
        if sequences:
            self._make_room(connection, sequences[-1])
            self._trim(connection, sequences[-1], now)
        return sequences

    def _make_room(self, connection: sqlite3.Connection, newest: int) -> None:
        """Merge, then drop, the least important records until the bound holds; what the hub may have goes last."""

        def excess() -> int:
            return counter(connection, "pending_bytes") - self._maximum

        if excess() <= 0:
            return
        before = self._nothing_to_merge
        merge = before is None or abs(newest - before) >= LOOK_AGAIN
        merged = 0
        ranks = [
            row[0] for row in connection.execute("SELECT DISTINCT priority FROM outbox ORDER BY priority")
        ]
        for each in ranks:
            for spans in LADDER if merge else ():
                if excess() > 0:
                    merged += thin_rank(connection, each, spans)
            drop(connection, excess(), "priority = ? AND offered IS NULL", (each,))
        drop(connection, excess(), "true", ())
        if merge and not merged:
            self._nothing_to_merge = newest

    def _trim(self, connection: sqlite3.Connection, newest: int, now: float) -> None:
        if self._trimmed is not None:
            at, sequence = self._trimmed
            if abs(now - at) < TRIM_SECONDS and abs(newest - sequence) < TRIM_RECORDS:
                return
        trim(connection, self._keep, now)
        self._trimmed = (now, newest)


def _sent(body: Recordable) -> Body:
    """What of it goes to the hub."""
    return Window(window=body.window) if isinstance(body, WindowClosed) else body


def _insert(connection: sqlite3.Connection, recordable: Recordable, now: float, outgoing: Outgoing) -> int:
    body = _sent(recordable)
    if isinstance(body, Sample):
        left = has_left(connection, body)
        if left is not None:
            return left
    kind = str(body.__struct_config__.tag)
    sequence = count(connection, "recorded")
    leaving = outgoing(body, asked_for(connection, recordable))
    if leaving is None:
        _insert_locally(connection, recordable, now)
        count(connection, "dropped:withheld")
        return sequence
    data = encode_body(leaving)
    unfit = _unfit(sequence, leaving, data)
    if unfit is not None:
        reason, words = unfit
        count(connection, f"dropped:{reason}")
        keep_for_a_person(connection, sequence, kind, words, now, data)
        if isinstance(body, Window):  # it is closed, and may be read here
            if reason == "oversized":
                _insert_locally(connection, recordable, now)
            forget_open(connection, body.window)
        return sequence
    _insert_locally(connection, recordable, now)
    if isinstance(body, Sample):
        note_left(connection, body, sequence, len(data), now)
    connection.execute(
        "INSERT INTO outbox (sequence, kind, priority, size, recorded, body) VALUES (?, ?, ?, ?, ?, ?)",
        (sequence, kind, rank(leaving), len(data), now, data),
    )
    count(connection, "pending_bytes", len(data))
    return sequence


def _insert_locally(connection: sqlite3.Connection, recordable: Recordable, now: float) -> None:
    """The device's own history: whole, whatever may leave."""
    body = _sent(recordable)
    if isinstance(body, Event):
        insert_event(connection, body)
    elif isinstance(body, Health):
        insert_health(connection, body)
    elif isinstance(body, Window):
        closed = recordable if isinstance(recordable, WindowClosed) else WindowClosed(window=body.window)
        insert_closed(connection, closed, now)


def _unfit(sequence: int, body: Body, data: bytes) -> tuple[str, str] | None:
    """Why a body can never be sent (ledger's kind, words), if it can't."""
    size = max(len(encode_msgpack(Record(sequence=sequence, body=body), limit=MAX_FRAME_BYTES)), len(data))
    if size + _RECORD_EXTRA_BYTES > MAX_RECORD_BYTES:
        return "oversized", f"{size} bytes, at most {MAX_RECORD_BYTES - _RECORD_EXTRA_BYTES} are allowed"
    try:
        decode_body(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # for instance a NaN, which JSON does not have
        return "unreadable", str(error)
    return None


def _urgent() -> tuple[str, tuple[float, ...]]:
    return "priority IN (?, ?)", URGENT


def _settled(before: Spans | None, now: float) -> tuple[str, tuple[float, ...]]:
    """What may be sent. A record of the future is as good as an old one: the clock was put back."""
    if before is None:
        return "true", ()
    words = (
        "(kind NOT IN ('window', 'health') OR priority IN (?, ?) OR recorded > ? "
        "OR recorded < CASE kind WHEN 'window' THEN ? ELSE ? END)"
    )
    return words, (*URGENT, now, before.windows, before.health)


def _take(
    connection: sqlite3.Connection,
    where: tuple[str, tuple[float, ...]],
    maximum_bytes: int,
    maximum_records: int,
    now: float,
) -> tuple[Record, ...]:
    """Records for one batch, marked as offered. One that can't be decoded any more is set aside on the way."""
    condition, values = where
    query = (
        f"SELECT sequence, offered, kind, recorded, body FROM outbox WHERE {condition} "  # noqa: S608 - from the two functions above
        "ORDER BY priority DESC, sequence LIMIT ?"
    )
    room = maximum_bytes - _ENVELOPE_BYTES
    records: list[Record] = []
    unreadable: list[int] = []
    for sequence, offered, kind, recorded, data in connection.execute(
        query, (*values, maximum_records)
    ).fetchall():
        try:
            record = Record(sequence=sequence, body=decode_body(data))
        except (msgspec.DecodeError, UnicodeDecodeError):
            unreadable.append(sequence)
            continue
        room -= len(encode_msgpack(record, limit=MAX_FRAME_BYTES))
        if room < 0:
            break
        if not offered:
            renewed = recorded < now - RENEW_SECONDS and kind not in SAMPLES
            record = replace(record, sequence=_offer(connection, sequence, kind, renewed=renewed))
        records.append(record)
    if unreadable:
        set_aside(connection, unreadable, "unreadable", "can't be decoded")
        return tuple(records) or _take(connection, where, maximum_bytes, maximum_records, now)
    return tuple(records)


def _offer(connection: sqlite3.Connection, sequence: int, kind: str, *, renewed: bool) -> int:
    """Mark a record; returns its sequence, which is a new one where it was ``renewed``."""
    number = sequence
    if renewed:
        number = count(connection, "recorded")
        count(connection, f"merged:{kind}")
    connection.execute("UPDATE outbox SET offered = 1, sequence = ? WHERE sequence = ?", (number, sequence))
    return number


def _acknowledge(connection: sqlite3.Connection, ack: TelemetryAck) -> None:
    if ack.epoch != epoch(connection):
        return
    refused = {int(text): reason for text, reason in ack.refused.items() if text.isdecimal()}
    for sequence, reason in refused.items():
        set_aside(connection, [sequence], "refused", reason[:_REFUSED_SHOWN])
    sizes: list[int] = []
    for sequence in ack.sequences:
        if sequence in refused:
            continue
        row = connection.execute(
            "DELETE FROM outbox WHERE sequence = ? RETURNING size, kind", (sequence,)
        ).fetchone()
        if row is not None:
            sizes.append(row[0])
            if row[1] == "sample":
                note_acknowledged(connection, sequence, time.time())
    if sizes:
        count(connection, "acknowledged", len(sizes))
        count(connection, "pending_bytes", -sum(sizes))


def _forget_samples(connection: sqlite3.Connection) -> int:
    sizes = [
        size for (size,) in connection.execute("DELETE FROM outbox WHERE kind = 'sample' RETURNING size")
    ]
    if sizes:
        count(connection, "dropped:cleared", len(sizes))
        count(connection, "pending_bytes", -sum(sizes))
    return len(sizes)


def _report(connection: sqlite3.Connection) -> OutboxReport:
    connection.execute("BEGIN")  # one snapshot, so that the ledger adds up
    try:
        counters = dict(connection.execute("SELECT name, value FROM counters").fetchall())
        (pending,) = connection.execute("SELECT count(*) FROM outbox").fetchone()
        name = epoch(connection)
    finally:
        connection.execute("COMMIT")
    return OutboxReport(
        epoch=name,
        recorded=counters.get("recorded", 0),
        acknowledged=counters.get("acknowledged", 0),
        pending=pending,
        dropped=_by_kind(counters, "dropped:"),
        quarantined=counters.get("quarantined", 0),
        merged=_by_kind(counters, "merged:"),
    )


def _by_kind(counters: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): value for name, value in counters.items() if name.startswith(prefix)}
