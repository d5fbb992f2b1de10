"""What is old is forgotten in small batches, roll-ups stay, and what comes again is known."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cloud_hub.database import Database
from cloud_hub.telemetry import retention, rollups
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryMark, TelemetryRecord
from cloud_hub.telemetry.retention import RetentionKeeper
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow
from cloud_hub.telemetry.service import counts
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window

SIGNED = reference(1)
START = 20_000 * DAY + 3600.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "hub.db")
    database.migrate()
    yield database
    database.close()


def send(database: Database, sequence: int, day: float, received: float | None = None) -> None:
    now = START + day * DAY
    sent = window(SIGNED, now, seed=sequence)
    database.write(lambda session: store(session, "cam", {sequence: sent}, received or now))


def take_in(database: Database) -> None:
    while True:
        batch = database.read(lambda session: rollups.look(session, lambda _model, _release: SIGNED))
        if not batch.arrived:
            return
        database.write(lambda session: rollups.take_in(session, batch))  # noqa: B023 - awaited


def sequences(database: Database) -> list[int]:
    rows = database.read(lambda session: list(session.scalars(select(DriftWindowRow.sequence))))
    keys = database.read(lambda session: list(session.scalars(select(TelemetryRecord.sequence))))
    assert sorted(rows) == sorted(keys)
    return sorted(keys)


def keeper(database: Database, raw_days: int = 30, rollup_days: int = 60) -> RetentionKeeper:
    return RetentionKeeper(database, raw_days=raw_days, rollup_days=rollup_days)


def test_raw_windows_go_roll_ups_stay_and_a_duplicate_is_still_one(database: Database) -> None:
    for sequence in range(1, 41):
        send(database, sequence, day=sequence)
    take_in(database)
    assert keeper(database).step(START + 45 * DAY) == 14
    assert sequences(database) == list(range(15, 41))
    assert database.read(lambda session: session.scalar(select(func.count()).select_from(DeviceDay))) == 40
    send(database, 7, day=7, received=START + 45 * DAY)
    take_in(database)
    assert sequences(database) == list(range(15, 41))
    rows = database.read(lambda session: list(session.scalars(select(DeviceDay.windows))))
    assert rows == [1] * 40
    assert database.read(counts)["cam"][0].records == 40


def test_small_batches_do_the_same(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for sequence in range(1, 11):
        send(database, sequence, day=sequence)
    take_in(database)
    found = database.read(lambda session: retention.find(session, "cam", "e1", START + 8 * DAY, limit=3))
    assert found is not None
    assert (found.until, found.records) == (3, 3)
    monkeypatch.setattr(retention, "BATCH", 2)
    assert keeper(database, raw_days=2).step(START + 10 * DAY) == 7
    assert sequences(database) == [8, 9, 10]


def test_a_window_that_no_roll_up_holds_is_never_forgotten(database: Database) -> None:
    send(database, 1, day=1)
    take_in(database)
    send(database, 2, day=2)
    send(database, 3, day=3)
    assert keeper(database).step(START + 50 * DAY) == 1
    assert sequences(database) == [2, 3]
    take_in(database)
    assert keeper(database).step(START + 50 * DAY) == 2


def test_a_late_record_under_newer_ones_waits_for_its_time(database: Database) -> None:
    send(database, 2, day=2)
    send(database, 1, day=1, received=START + 40 * DAY)
    take_in(database)
    assert keeper(database).step(START + 45 * DAY) == 0
    assert sequences(database) == [1, 2]
    assert keeper(database).step(START + 75 * DAY) == 2
    assert database.read(lambda session: session.get_one(TelemetryMark, ("cam", "e1")).low_water) == 2


def test_roll_ups_go_after_their_own_time(database: Database) -> None:
    send(database, 1, day=1)
    send(database, 2, day=50)
    take_in(database)
    keeper(database).step(START + 70 * DAY)
    days = database.read(lambda session: list(session.scalars(select(DeviceDay.day))))
    fleet = database.read(lambda session: list(session.scalars(select(FleetDay.day))))
    assert days == fleet == [20_050]
    keeper(database).step(START + 200 * DAY)
    assert database.read(lambda session: list(session.scalars(select(NewestWindow)))) == []


def test_a_pass_is_due_every_hour_and_after_a_clock_was_set_back(database: Database) -> None:
    send(database, 1, day=0)
    take_in(database)
    mine = keeper(database)
    now = START + 100 * DAY
    assert mine.step(now) == 1
    send(database, 2, day=0)
    take_in(database)
    assert mine.step(now + 3_599) == 0
    assert mine.step(now - 10 * DAY) == 1
