"""A migrated database, SQLite's and PostgreSQL's in turn, and batches for it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from agent.protocol.batch_codec import ReceivedBatch
from agent.protocol.drift import DriftWindow, SignalCounts, Verdict
from agent.protocol.telemetry import Body, Event, Record, Window
from cloud_hub.database import Database
from cloud_hub.devices.models import Device
from cloud_hub.ingest.store import Stored, store_batches
from tests.support.postgresql import postgresql, postgresql_url

__all__ = ["postgresql", "postgresql_url"]

NOW = 1_800_000_000.0


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where the hub's database is to be."""
    return tmp_path / "hub.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(place: Path | str) -> Iterator[Database]:
    with closing(Database(place)) as made:
        made.migrate()
        yield made


def event(words: str = "held") -> Event:
    return Event(time=1.0, severity="info", kind="hold", text=words)


def window(rows: int = 10, *, piece: str | None = None) -> Window:
    verdict = Verdict(
        level="insufficient data",
        rows=rows,
        correction="benjamini-hochberg",
        alpha=0.01,
        judged=0,
        moved_most=(),
        reason="few rows",
    )
    return Window(
        window=DriftWindow(
            model="digits",
            release=7,
            deployment="d",
            artifact="5e" * 32,
            opened=1.0,
            closed=2.0,
            rows=rows,
            signals={"a": SignalCounts(counts=(0, rows, 0))},
            verdict=verdict,
            slice=piece,
        )
    )


def batch(records: dict[int, Body], device: str = "cam-1", epoch: str = "e1") -> ReceivedBatch:
    made = tuple(Record(sequence=sequence, body=body) for sequence, body in records.items())
    return ReceivedBatch(device=device, epoch=epoch, records=made, refused={})


def store(database: Database, *batches: ReceivedBatch, now: float = NOW) -> Stored:
    return database.append(lambda session: store_batches(session, batches, now))


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    return database.read(lambda session: [tuple(row) for row in session.execute(text(query))])


def enrol(database: Database, *devices: str, revoked: float | None = None) -> None:
    def work(session: Session) -> None:
        for name in devices:
            session.add(
                Device(
                    id=name,
                    hardware_class="x86-64",
                    enrolled=1.0,
                    certificate_sha256="",
                    certificate_serial="",
                    certificate_expires=4e9,
                    revoked=revoked,
                )
            )

    database.write(work)


Rows = Callable[[Database, str], list[tuple[Any, ...]]]
