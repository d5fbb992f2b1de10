"""What became of requests for samples, and which samples left the device by them: when, and by whose signature.

Tables ``sample_requests`` and ``samples_left``. A sample is noted in the transaction that puts it into the outbox, so that it
leaves once for each request, whatever crashes in between.
"""

import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from agent.protocol.control import SampleDeparture
from agent.protocol.telemetry import Sample
from agent.store.database import Database

KEEP_REQUESTS = 1_000
KEEP_LEFT = 10_000


class DecidedRequest(Struct, frozen=True, kw_only=True):
    """One decision on one request."""

    time: float
    request: str
    accepted: bool
    code: str
    text: str
    model: str | None = None
    first_release: int | None = None
    last_release: int | None = None
    maximum: int | None = None
    purpose: str | None = None
    approver: str | None = None
    """Key id; None where it could not be proven."""
    chosen: int = 0


def has_left(connection: sqlite3.Connection, sample: Sample) -> int | None:
    """Under which sequence ``sample`` was put into the outbox for its request already, if it was."""
    row = connection.execute(
        "SELECT sequence FROM samples_left WHERE request = ? AND sample = ?", (sample.request, sample.sample)
    ).fetchone()
    return None if row is None else int(row[0])


def note_left(connection: sqlite3.Connection, sample: Sample, sequence: int, size: int, now: float) -> None:
    """Within the transaction that puts it into the outbox."""
    connection.execute(
        "INSERT INTO samples_left (request, sample, sequence, queued, model, release, size) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (sample.request, sample.sample, sequence, now, sample.model, sample.release, size),
    )
    connection.execute(
        "DELETE FROM samples_left WHERE rowid NOT IN (SELECT rowid FROM samples_left ORDER BY queued DESC LIMIT ?)",
        (KEEP_LEFT,),
    )


def note_acknowledged(connection: sqlite3.Connection, sequence: int, now: float) -> None:
    """Within the transaction that takes it out of the outbox: the hub has it."""
    connection.execute("UPDATE samples_left SET acknowledged = ? WHERE sequence = ?", (now, sequence))


class SampleLedger:
    """The device's own audit trail of samples."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, decided: DecidedRequest) -> None:
        """Write a decision down."""

        def work(connection: sqlite3.Connection) -> None:
            cursor = connection.execute(
                "INSERT INTO sample_requests (time, request, accepted, code, text, model, first_release, last_release, "
                "maximum, purpose, approver, chosen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    decided.time,
                    decided.request,
                    int(decided.accepted),
                    decided.code,
                    decided.text,
                    decided.model,
                    decided.first_release,
                    decided.last_release,
                    decided.maximum,
                    decided.purpose,
                    decided.approver,
                    decided.chosen,
                ),
            )
            oldest = (cursor.lastrowid or 0) - KEEP_REQUESTS
            connection.execute("DELETE FROM sample_requests WHERE id <= ?", (oldest,))

        await self._database.write(work)

    async def waiting(self) -> int:
        """Samples in the outbox that the hub does not have yet."""
        return await self._database.read(
            lambda connection: int(
                connection.execute("SELECT count(*) FROM outbox WHERE kind = 'sample'").fetchone()[0]
            )
        )

    async def departures(self, limit: int) -> tuple[SampleDeparture, ...]:
        """Up to ``limit`` decisions, the newest first, each with what left by it."""
        return await self._database.read(lambda connection: tuple(_departures(connection, limit)))

    async def left(self) -> dict[str, float]:
        """Sample → when it was first put into the outbox."""
        return await self._database.read(
            lambda connection: dict(
                connection.execute("SELECT sample, min(queued) FROM samples_left GROUP BY sample").fetchall()
            )
        )


def _departures(connection: sqlite3.Connection, limit: int) -> Iterable[SampleDeparture]:
    rows = connection.execute(
        "SELECT time, request, accepted, code, text, model, purpose, approver, "
        "(SELECT count(*) FROM samples_left WHERE samples_left.request = sample_requests.request), "
        "(SELECT count(acknowledged) FROM samples_left WHERE samples_left.request = sample_requests.request), "
        "(SELECT coalesce(sum(size), 0) FROM samples_left WHERE samples_left.request = sample_requests.request) "
        "FROM sample_requests ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    for time, request, accepted, code, text, model, purpose, approver, samples, sent, size in rows:
        departed = bool(accepted)
        yield SampleDeparture(
            time=time,
            request=request,
            accepted=departed,
            code=code,
            text=text,
            model=model,
            purpose=purpose,
            approver=approver,
            samples=samples if departed else 0,
            sent=sent if departed else 0,
            size_bytes=size if departed else 0,
        )
