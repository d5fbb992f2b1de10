"""One device's verdicts over time, the fleet's days, and the map of both."""

from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from agent.protocol.drift import AccuracyEstimate, Alarm
from cloud_hub.database import Database
from cloud_hub.telemetry import fleet_days, history, rollups
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.views import HeatMap, VerdictTimeline
from tests.support.drift_fleets import reference
from tests.support.drift_windows import store, window

SIGNED = reference(1)
NOW = 20_000 * DAY + 43_200.0
HOUR = 3600.0


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Six devices over five days; device 0 drifts from the third day on, device 1 warns of nothing but drifts once."""
    database = Database(tmp_path_factory.mktemp("history") / "hub.db")
    database.migrate()

    def fill(session: Session) -> None:
        for number in range(6):
            for day in range(5):
                closed = NOW - (4 - day) * DAY
                drifts = (number == 0 and day >= 2) or (number == 1 and day == 4)
                sent = window(
                    SIGNED,
                    closed,
                    seed=10 * number + day,
                    shift=4 if drifts else 0,
                    release=1 if day < 3 else 2,
                    alarm=Alarm(level="drift" if drifts else "ok", since=closed, windows=1),
                    estimate=AccuracyEstimate(accuracy=0.9, low=0.8, high=1.0, level=0.95, rows=500),
                )
                store(session, f"cam-{number}", {day + 1: sent}, closed + 1)
        cut = window(SIGNED, NOW - HOUR, rows=77, release=2, incomplete=True)
        late = window(SIGNED, NOW - 3 * DAY, seed=99, release=2)
        lost = window(SIGNED, 120.0, seed=98, release=2)
        store(session, "cam-2", {6: cut, 7: late, 8: lost}, NOW)

    database.write(fill)
    batch = database.read(lambda session: rollups.look(session, lambda _model, _release: SIGNED))
    database.write(lambda session: rollups.take_in(session, batch))
    for key in database.read(lambda session: fleet_days.stale(session, NOW, at_least=0, limit=99)):
        made = database.read(lambda session: fleet_days.make(session, key, lambda _model, _release: SIGNED))  # noqa: B023
        database.write(lambda session: fleet_days.keep(session, made, NOW))  # noqa: B023
    yield database
    database.close()


def timeline(database: Database, device: str, days: float) -> VerdictTimeline:
    return database.read(
        lambda session: history.verdict_timeline(session, device, "digits", NOW - days * DAY, now=NOW)
    )


def heat_map(database: Database, release: int, most: int = 200) -> HeatMap:
    return database.read(
        lambda session: history.heat_map(session, "digits", release, NOW - 4 * DAY, now=NOW, most=most)
    )


def test_a_short_span_is_told_window_by_window(database: Database) -> None:
    found = timeline(database, "cam-0", 7)
    assert (found.by, found.cut, list(found.points)) == ("window", False, [2, 1])
    assert [point.level for point in found.points[1]] == ["ok", "ok", "drift"]
    assert [point.level for point in found.points[2]] == ["drift", "drift"]
    assert [point.alarm for point in found.points[2]] == ["drift", "drift"]
    assert found.points[2][0].accuracy == 0.9
    assert timeline(database, "cam-0", 1.5).points.keys() == {2}


def test_late_and_incomplete_windows_stand_out_and_a_wrong_clock_hides_nothing(database: Database) -> None:
    points = timeline(database, "cam-2", 7).points[2]
    assert [point.time for point in points] == sorted(point.time for point in points)
    assert [(point.rows, point.incomplete, point.late) for point in points] == [
        (500, False, True),
        (500, False, False),
        (77, True, False),
        (500, False, False),
        (500, False, False),
    ]
    (lost,) = [point for point in points if point.closed == 120.0]
    assert lost.time == NOW


def test_a_long_span_is_told_day_by_day_as_the_hub_judges_it(database: Database) -> None:
    found = timeline(database, "cam-0", 90)
    assert found.by == "day"
    assert [point.level for point in found.points[1]] == ["ok", "ok", "drift"]
    assert [point.windows for point in found.points[2]] == [1, 1]
    today = timeline(database, "cam-2", 90).points[2][-1]
    assert (today.windows, today.rows, today.incomplete) == (3, 1077, True)


def test_an_unknown_device_has_an_empty_timeline(database: Database) -> None:
    assert timeline(database, "nobody", 7).points == {}


def test_the_map_has_the_worst_first_and_a_gap_where_nothing_came(database: Database) -> None:
    found = heat_map(database, 2)
    assert found.days == ("2024-09-30", "2024-10-01", "2024-10-02", "2024-10-03", "2024-10-04")
    assert found.devices[:2] == ("cam-0", "cam-1")
    levels = [[cell.level if cell else None for cell in row] for row in found.cells]
    assert levels[0] == [None, None, None, "drift", "drift"]
    assert levels[1] == [None, None, None, "ok", "drift"]
    (two,) = [row for device, row in zip(found.devices, found.cells, strict=True) if device == "cam-2"]
    assert two[1] is not None  # the late window's day
    assert two[4] is not None
    assert (two[4].incomplete, two[4].windows) == (1, 3)
    assert [cell.level if cell else None for cell in found.fleet] == [None, "ok", None, "ok", "ok"]


def test_a_map_of_few_says_that_there_are_more(database: Database) -> None:
    found = heat_map(database, 2, most=2)
    assert (found.devices, found.cut) == (("cam-0", "cam-1"), True)


def test_the_fleets_days_name_who_was_left_out(database: Database) -> None:
    days = database.read(lambda session: history.fleet_days(session, "digits", 2, NOW - 30 * DAY))
    last = days[-1]
    assert (last.day, last.devices, last.level) == ("2024-10-04", 6, "ok")
    assert last.left_out == 2
    assert last.levels == {"drift": 2, "ok": 4}
    assert "cam-0, cam-1" in last.text
    assert (last.incomplete_windows, last.incomplete_rows) == (1, 77)
    assert last.accuracy == pytest.approx(0.9)
