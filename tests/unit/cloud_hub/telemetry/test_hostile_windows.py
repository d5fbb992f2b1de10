"""What one device sends, whatever it is, never stops the roll-ups of the others."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from agent.protocol.drift import AccuracyEstimate, DriftReference, DriftWindow, SignalCounts
from cloud_hub.database import Database
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.models import Release
from cloud_hub.telemetry import adding, fleet_days, keeper, rollups
from cloud_hub.telemetry.adding import DAY, MOST_ROWS, Day, add
from cloud_hub.telemetry.arriving import NOT_MERGED
from cloud_hub.telemetry.keeper import RollUpKeeper
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.rollup_bodies import CountsBody, decode_counts, decode_fleet_day, encode
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window

SIGNED = reference(1)
NOW = 20_000 * DAY + 43_200.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "hub.db")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def roll_ups(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RollUpKeeper:
    """Its release is in the registry, and its reference is read from here."""
    release = Release(model="digits", release=1, state="published", author="ci", created=NOW)
    database.write(lambda session: session.add(release))
    monkeypatch.setattr(keeper, "reference_of", lambda *_: SIGNED)
    return RollUpKeeper(database, ArtifactStore(tmp_path / "artifacts"))


def claims(rows: int, **fields: int) -> DriftWindow:
    whole = window(SIGNED, NOW)
    size = len(whole.signals["x0"].counts)
    counts = SignalCounts(counts=(rows, *(0,) * (size - 1)), **fields)
    return msgspec.structs.replace(whole, rows=rows, signals={"x0": counts})


def send(database: Database, device: str, *windows: DriftWindow) -> None:
    sent = dict(enumerate(windows, 1))
    database.write(lambda session: store(session, device, sent, NOW))


def days(database: Database) -> dict[str, DeviceDay]:
    rows = database.read(lambda session: list(session.scalars(select(DeviceDay))))
    return {row.device: row for row in rows}


def waiting(database: Database) -> int:
    query = select(func.count()).select_from(DriftWindowRow).where(NOT_MERGED)
    return database.read(lambda session: session.scalar(query) or 0)


def counted(database: Database, table: type[NewestWindow] | type[DeviceDay] | type[FleetDay]) -> int:
    return database.read(lambda session: session.scalar(select(func.count()).select_from(table)) or 0)


def test_more_repeated_rows_than_rows_are_not_added(database: Database, roll_ups: RollUpKeeper) -> None:
    send(database, "bad", claims(500, repeated=2**53), claims(500, repeated=2**53))
    roll_ups.step(NOW)
    send(database, "good", window(SIGNED, NOW))
    roll_ups.step(NOW + 61)
    assert waiting(database) == 0
    found = days(database)
    assert (found["bad"].unusable, found["bad"].rows) == (2, 0)
    assert found["good"].rows == 500


@pytest.mark.parametrize("known", [True, False])
def test_a_day_stays_small_enough_to_be_read_again(known: bool) -> None:  # noqa: FBT001 - a case
    day = Day()
    for _ in range(3):
        day = add(day, claims(MOST_ROWS), NOW, SIGNED if known else None)
        day = add(day, claims(500, repeated=2**53), NOW, SIGNED if known else None)
    assert (day.rows, day.unusable) == (MOST_ROWS, 5)
    decode_counts(encode(CountsBody(signals=day.signals)))


def test_an_estimate_is_made_of_no_more_rows_than_there_are_and_is_a_share() -> None:
    day = Day()
    for accuracy in (0.5, float("nan"), float("inf"), -1e300):
        estimate = AccuracyEstimate(accuracy=accuracy, low=0.4, high=0.6, level=0.95, rows=2**53)
        day = add(day, window(SIGNED, NOW, estimate=estimate), NOW, SIGNED)
    assert (day.estimate_rows, day.accuracy) == (500, 0.5)


def test_words_of_a_device_are_made_fit_to_be_stored(database: Database, roll_ups: RollUpKeeper) -> None:
    whole = window(SIGNED, NOW)
    named = msgspec.structs.replace(whole, signals={"x\x00y" + "z" * 9_000: whole.signals["x0"]})
    send(database, "bad", named)
    roll_ups.step(NOW)
    problem = days(database)["bad"].problem
    assert problem is not None
    assert problem.isprintable()
    assert "x\\x00y" in problem
    assert len(problem) <= 1_000


def test_a_window_that_nobody_foresaw_is_set_aside_alone(
    database: Database, roll_ups: RollUpKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(day: Day, each: DriftWindow, received: float, signed: DriftReference | None) -> Day:
        if each.rows == 499:
            raise OverflowError("too\x00much")
        return add(day, each, received, signed)

    monkeypatch.setattr(adding, "add", stumbles)
    for number in range(6):
        send(database, f"cam-{number}", window(SIGNED, NOW, rows=499 if number == 3 else 500))
    roll_ups.step(NOW)
    assert waiting(database) == 0
    found = days(database)
    assert [found[f"cam-{number}"].rows for number in range(6)] == [500, 500, 500, 0, 500, 500]
    assert found["cam-3"].unusable == 1
    assert "can't be taken in: too\\x00much" in (found["cam-3"].problem or "")
    fleet = database.read(lambda session: session.scalars(select(FleetDay)).one())
    assert (fleet.unusable, fleet.rows) == (1, 2500)


def test_stored_bytes_that_can_not_be_read_stop_neither_windows_nor_the_fleet(
    database: Database, roll_ups: RollUpKeeper
) -> None:
    for device in ("bad-window", "bad-day", "good"):
        send(database, device, window(SIGNED, NOW))
    broken = update(DriftWindowRow).where(DriftWindowRow.device == "bad-window").values(window=b"\xc1")
    database.write(lambda session: session.execute(broken))
    roll_ups.step(NOW)
    spoil = update(DeviceDay).where(DeviceDay.device == "bad-day").values(body=b"\xc1")
    database.write(lambda session: session.execute(spoil))
    again = {2: window(SIGNED, NOW)}
    for device in ("bad-day", "good"):
        database.write(lambda session: store(session, device, again, NOW))  # noqa: B023 - awaited
    roll_ups.step(NOW + 61)
    found = days(database)
    assert {name: (row.rows, row.unusable) for name, row in found.items()} == {
        "bad-window": (0, 1),
        "bad-day": (500, 1),
        "good": (1000, 0),
    }
    fleet = database.read(lambda session: session.scalars(select(FleetDay)).one())
    assert (fleet.level, fleet.dirty, fleet.left_out) == ("ok", False, 1)


def test_what_a_device_makes_up_makes_no_rows(database: Database, roll_ups: RollUpKeeper) -> None:
    strange = [window(SIGNED, NOW, model=f"made-up-{number}") for number in range(20)]
    strange += [window(SIGNED, NOW, release=2 + number) for number in range(20)]
    send(database, "bad", *strange)
    send(database, "good", window(SIGNED, NOW))
    roll_ups.step(NOW)
    assert waiting(database) == 0
    assert [counted(database, table) for table in (NewestWindow, DeviceDay, FleetDay)] == [1, 1, 1]


def test_slices_are_kept_up_to_a_number_and_the_rest_is_counted(
    database: Database, roll_ups: RollUpKeeper
) -> None:
    send(database, "bad", *(window(SIGNED, NOW, slice_=f"shift={number}") for number in range(30)))
    roll_ups.step(NOW)
    late = {31: window(SIGNED, NOW, slice_="shift=late"), 32: window(SIGNED, NOW, slice_="x" * 5_000)}
    database.write(lambda session: store(session, "bad", late, NOW))
    send(database, "good", window(SIGNED, NOW, slice_="shift=29"))
    roll_ups.step(NOW + 61)
    assert counted(database, NewestWindow) == 18
    whole = database.read(lambda session: session.get(DeviceDay, ("bad", "digits", 1, "", 20_000)))
    assert whole is not None
    assert (whole.unusable, whole.rows) == (15, 0)


def test_a_flood_of_days_takes_nobodys_turn(database: Database) -> None:
    def fill(session: Session) -> None:
        honest = rollups.new_fleet_day("digits", 1, "", 20_000, NOW - 120)
        session.add(honest)
        for number in range(40):
            session.add(rollups.new_fleet_day("digits", 1, "", 19_000 + number, NOW))
            session.add(rollups.new_fleet_day("digits", 1, "shift=1", 19_000 + number, NOW - 300))

    database.write(fill)
    keys = database.read(lambda session: fleet_days.stale(session, NOW, at_least=60, limit=8))
    assert (keys[0].day, keys[0].slice) == (20_000, "")
    assert [key.slice for key in keys] == [""] * 4 + ["shift=1"] * 4


def test_no_fleet_claims_more_than_can_be_counted(database: Database, roll_ups: RollUpKeeper) -> None:
    def fill(session: Session) -> None:
        for number in range(40):
            row = rollups.new_day((f"liar-{number}", "digits", 1, "", 20_000))
            row.rows = row.windows = 2**50
            counts = claims(2**50).signals
            row.body = encode(CountsBody(signals=counts))
            session.add(row)
        session.add(rollups.new_fleet_day("digits", 1, "", 20_000, NOW))

    database.write(fill)
    roll_ups.step(NOW)
    fleet = database.read(lambda session: session.scalars(select(FleetDay)).one())
    assert (fleet.dirty, fleet.left_out) == (False, 40)
    decode_fleet_day(fleet.body)
