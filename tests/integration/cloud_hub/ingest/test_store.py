"""Records are stored once, on SQLite and on PostgreSQL alike, however they come."""

import threading
from functools import partial
from pathlib import Path

import msgspec
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, delete
from sqlalchemy.orm import Session

from cloud_hub import tables
from cloud_hub.audit.chain import verify
from cloud_hub.audit.service import entries, record
from cloud_hub.database import Database
from cloud_hub.ingest.conflicts import SECONDS_A_DAY, note_conflicts
from cloud_hub.ingest.store import CONFLICT, UNSTORABLE, strangers
from cloud_hub.telemetry.bodies import decode_body, decode_window
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryMark, TelemetryRecord
from cloud_hub.telemetry.service import counts
from tests.integration.cloud_hub.ingest.conftest import NOW, batch, enrol, event, rows, store, window


def test_the_migration_makes_what_the_models_say(database: Database, place: Path | str) -> None:
    engine = create_engine(f"sqlite:///{place}" if isinstance(place, Path) else place)
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), tables.metadata)
    engine.dispose()
    assert difference == []


def test_a_body_is_stored_once_and_reads_as_it_was(database: Database) -> None:
    stored = store(database, batch({1: event(), 2: window(10), 3: window(20, piece="site=north")}))
    assert (stored.new, stored.duplicates) == (3, 0)
    (ack,) = [ack for _device, ack in stored.messages()]
    assert (ack.sequences, ack.refused) == ((1, 2, 3), {})
    bodies = rows(database, "SELECT sequence, kind, body FROM telemetry ORDER BY sequence")
    assert [(row[0], row[1], row[2] is None) for row in bodies] == [
        (1, "event", False),
        (2, "window", True),
        (3, "window", True),
    ]
    assert decode_body(bytes(bodies[0][2])) == event()
    windows = rows(database, 'SELECT slice, rows, merged_in, "window" FROM drift_windows ORDER BY sequence')
    assert [row[:3] for row in windows] == [("", 10, False), ("site=north", 20, False)]
    assert decode_window(bytes(windows[0][3])) == window(10).window


def test_redelivery_in_any_order_leaves_nothing_behind(database: Database) -> None:
    store(database, batch({4: event("four"), 5: window()}))
    again = store(
        database,
        batch({5: window(), 6: event("six"), 4: event("four")}),
        batch({6: event("six"), 1: event("late")}),
        batch({4: event("four")}, epoch="e2"),
    )
    assert (again.new, again.duplicates, again.conflicts) == (3, 3, [])
    assert {ack.epoch: ack.sequences for _device, ack in again.messages()} == {"e1": (1, 4, 5, 6), "e2": (4,)}
    assert len(rows(database, "SELECT 1 FROM drift_windows")) == 1
    (first, second) = database.read(counts)["cam-1"]
    assert (first.records, first.by_kind, second.records) == (4, {"event": 3, "window": 1}, 1)


def test_the_first_of_two_records_with_one_key_stays_and_the_other_is_refused_counted_and_audited(
    database: Database,
) -> None:
    store(database, batch({1: event("first"), 2: window(10)}))
    stored = store(
        database, batch({1: event("other"), 2: window(11), 3: event("new")}), batch({3: event("newer")})
    )
    assert (stored.new, stored.duplicates) == (1, 0)
    assert sorted(stored.conflicts) == [("cam-1", "e1", 1), ("cam-1", "e1", 2), ("cam-1", "e1", 3)]
    ((_device, ack),) = stored.messages()
    assert (ack.sequences, ack.refused) == ((3,), {"1": CONFLICT, "2": CONFLICT})
    texts = [
        decode_body(bytes(row[0]))
        for row in rows(database, "SELECT body FROM telemetry WHERE body IS NOT NULL")
    ]
    assert texts == [event("first"), event("new")]
    assert rows(database, "SELECT rows FROM drift_windows") == [(10,)]
    for now in (NOW, NOW + 1, NOW + SECONDS_A_DAY):
        database.write(partial(note_conflicts, keys=stored.conflicts, now=now))
    assert rows(database, "SELECT device, conflicts FROM telemetry_conflicts") == [("cam-1", 9)]
    told = database.read(entries)
    assert [entry.details["conflicts"] for entry in told] == ["1", "7"]
    assert {(entry.action, entry.subject) for entry in told} == {("telemetry-conflict", "cam-1")}


def test_what_retention_has_taken_away_is_known_by_the_low_water_mark(database: Database) -> None:
    store(database, batch({1: event(), 2: window()}))

    def forget(session: Session) -> None:
        session.add(TelemetryMark(device="cam-1", epoch="e1", low_water=2))
        session.execute(delete(TelemetryRecord))
        session.execute(delete(DriftWindowRow))

    database.write(forget)
    stored = store(database, batch({1: event(), 2: window(), 3: event()}))
    assert (stored.new, stored.duplicates) == (1, 2)
    assert rows(database, "SELECT sequence FROM telemetry") == [(3,)]
    assert database.read(counts)["cam-1"][0].records == 3


def test_a_text_that_postgresql_cannot_hold_is_refused_by_name(database: Database) -> None:
    stored = store(database, batch({1: window(piece="site=\0"), 2: event("\0 in a body is bytes")}))
    ((_device, ack),) = stored.messages()
    assert (ack.sequences, ack.refused, stored.refused) == ((2,), {"1": UNSTORABLE}, 1)


def test_numbers_are_of_64_bits(database: Database) -> None:
    stored = store(database, batch({2**53: event()}))
    assert stored.new == 1
    assert rows(database, "SELECT sequence FROM telemetry") == [(2**53,)]


def test_a_group_larger_than_a_statement_holds_meets_one_record_that_was_there(database: Database) -> None:
    store(database, batch({700: event("700")}))
    many = [batch({n: event(str(n)) for n in range(first, first + 200)}) for first in range(1, 1601, 200)]
    stored = store(database, *many)
    assert (stored.new, stored.duplicates, stored.conflicts) == (1599, 1, [])


def test_strangers_and_the_revoked_are_told_apart(database: Database) -> None:
    enrol(database, "cam-1")
    enrol(database, "cam-2", revoked=2.0)
    found = database.read(lambda session: strangers(session, ["cam-1", "cam-2", "cam-3"]))
    assert found == {"cam-2": "revoked-device", "cam-3": "unknown-device"}


def test_the_audit_logs_chain_has_one_end_though_several_write(place: Path | str, database: Database) -> None:
    """Each with its own connections, as processes have."""
    others = [Database(place) for _ in range(3)]

    def write(one: Database, name: str) -> None:
        for number in range(10):
            one.write(partial(record, now=NOW, actor=name, action="test", subject=str(number)))

    threads = [threading.Thread(target=write, args=(one, f"w{place}")) for place, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    report = verify([msgspec.json.encode(entry) for entry in database.read(entries)])
    assert (report.problem, report.entries) == (None, 30)


def test_two_that_append_the_same_records_at_once_store_each_once(
    place: Path | str, database: Database
) -> None:
    others = [Database(place) for _ in range(2)]
    results: list[int] = []

    def send(one: Database, backwards: bool) -> None:  # noqa: FBT001 - a test's helper
        sequences = sorted(range(1, 200), reverse=backwards)
        for start in range(0, len(sequences), 20):
            stored = store(one, batch({n: event(str(n)) for n in sequences[start : start + 20]}))
            results.append(stored.new)

    threads = [threading.Thread(target=send, args=(one, bool(way))) for way, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in others:
        one.close()
    assert sum(results) == 199
    assert rows(database, "SELECT COUNT(*) FROM telemetry") == [(199,)]
    assert database.read(counts)["cam-1"][0].records == 199
