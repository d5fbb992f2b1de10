"""What happens beside the roll-up: windows that come while a day is made, a second process, a release without reference."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from agent.protocol.drift import DriftReference
from cloud_hub.database import Database
from cloud_hub.telemetry import fleet_days, rollups
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.rollup_bodies import decode_newest
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window

SIGNED = reference(1)
NOW = 20_000 * DAY + 43_200.0


def signed(_model: str, _release: int) -> DriftReference | str:
    return SIGNED


def nothing(_model: str, _release: int) -> DriftReference | str:
    return "the hub does not hold it"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "hub.db")
    database.migrate()
    yield database
    database.close()


def send(
    database: Database, sequence: int, *, device: str = "cam", epoch: str = "e1", shift: int = 0
) -> None:
    sent = window(SIGNED, NOW + sequence, seed=sequence, shift=shift)
    database.write(lambda session: store(session, device, {sequence: sent}, NOW + sequence, epoch=epoch))


def take_in(database: Database, references: rollups.ReferenceOf = signed) -> None:
    batch = database.read(lambda session: rollups.look(session, references))
    database.write(lambda session: rollups.take_in(session, batch))


def stale(database: Database, now: float, at_least: float = 0.0) -> list[fleet_days.FleetDayKey]:
    return database.read(lambda session: fleet_days.stale(session, now, at_least=at_least, limit=9))


def newest(database: Database) -> NewestWindow:
    return database.read(lambda session: session.scalars(select(NewestWindow)).one())


def test_a_window_that_comes_while_a_day_is_made_has_it_made_once_more(database: Database) -> None:
    send(database, 1)
    take_in(database)
    (key,) = stale(database, NOW)
    made = database.read(lambda session: fleet_days.make(session, key, signed))
    send(database, 2)
    take_in(database)
    assert database.write(lambda session: fleet_days.keep(session, made, NOW)) is False
    assert stale(database, NOW + 59, at_least=60) == []  # not at once
    (key,) = stale(database, NOW + 60, at_least=60)
    made = database.read(lambda session: fleet_days.make(session, key, signed))
    assert database.write(lambda session: fleet_days.keep(session, made, NOW)) is True
    fleet = database.read(lambda session: session.scalars(select(FleetDay)).one())
    device = database.read(lambda session: session.scalars(select(DeviceDay)).one())
    assert (fleet.rows, fleet.windows, device.judged, device.level) == (1000, 2, True, "ok")


def test_a_batch_that_another_process_took_changes_nothing(database: Database) -> None:
    send(database, 1)
    batch = database.read(lambda session: rollups.look(session, signed))
    database.write(lambda session: rollups.take_in(session, batch))
    with pytest.raises(rollups.TakenElsewhereError, match="1 of 1"):
        database.write(lambda session: rollups.take_in(session, batch))
    device = database.read(lambda session: session.scalars(select(DeviceDay)).one())
    assert (device.windows, device.rows) == (1, 500)


def test_newest_goes_by_sequence_and_a_new_epoch_takes_over(database: Database) -> None:
    send(database, 7, shift=4)
    take_in(database)
    assert (newest(database).sequence, newest(database).level) == (7, "drift")
    send(database, 3)
    take_in(database)
    assert newest(database).sequence == 7
    send(database, 8, epoch="e2")
    take_in(database)
    assert (newest(database).epoch, newest(database).sequence, newest(database).level) == ("e2", 8, "ok")


def test_a_level_keeps_its_beginning_until_it_changes(database: Database) -> None:
    for sequence, shift in ((1, 0), (2, 0), (3, 4), (4, 4)):
        send(database, sequence, shift=shift)
        take_in(database)
    assert newest(database).level_since == NOW + 3
    for sequence in (5, 6):
        send(database, sequence)
    take_in(database)
    assert newest(database).level_since == NOW + 5


def test_without_a_reference_counts_are_added_and_nothing_is_judged(database: Database) -> None:
    send(database, 1)
    take_in(database, nothing)
    found = newest(database)
    assert (found.level, found.claimed) == ("", "ok")
    assert decode_newest(found.body).problem == "the hub does not hold it"
    (key,) = stale(database, NOW)
    made = database.read(lambda session: fleet_days.make(session, key, nothing))
    database.write(lambda session: fleet_days.keep(session, made, NOW))
    fleet = database.read(lambda session: session.scalars(select(FleetDay)).one())
    assert (fleet.rows, fleet.level) == (500, "")


def test_the_partial_index_finds_what_is_new(database: Database) -> None:
    def plan(session: object) -> str:
        rows = session.connection().exec_driver_sql(  # type: ignore[attr-defined]  # a session
            "EXPLAIN QUERY PLAN SELECT device FROM drift_windows WHERE NOT merged_in ORDER BY received LIMIT 9"
        )
        return " ".join(row[3] for row in rows)

    assert "drift_windows_not_merged" in database.read(plan)
