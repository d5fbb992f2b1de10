"""What is added to a day and what is not, and to which day."""

import msgspec

from agent.protocol.drift import AccuracyEstimate, Alarm, SignalCounts
from cloud_hub.telemetry.adding import DAY, MOST_ROWS, Day, add, day_of
from tests.support.drift_fleets import reference
from tests.support.drift_windows import window, without_counts

SIGNED = reference(1)
NOON = 20_000 * DAY + 43_200.0


def test_a_window_belongs_to_the_day_in_which_it_was_closed_however_late_it_comes() -> None:
    assert day_of(NOON, NOON + 30 * DAY) == 20_000
    assert day_of(20_001 * DAY - 0.5, NOON + DAY) == 20_000
    assert day_of(20_001 * DAY + 0.5, NOON + DAY) == 20_001


def test_a_clock_that_cannot_be_right_is_not_believed() -> None:
    assert day_of(12.0, NOON) == 20_000
    assert day_of(NOON + 2 * DAY, NOON) == 20_000
    assert day_of(NOON + 600, NOON) == 20_000


def test_incomplete_windows_count_and_their_counts_are_rows_like_others() -> None:
    whole = window(SIGNED, NOON)
    cut = window(SIGNED, NOON, rows=120, incomplete=True)
    lost = without_counts(window(SIGNED, NOON, rows=77))
    day = Day()
    for each in (whole, cut, lost):
        day = add(day, each, NOON, SIGNED)
    assert (day.rows, day.windows) == (620, 2)
    assert (day.incomplete_windows, day.incomplete_rows) == (2, 197)
    assert day.unusable == 0
    assert sum(day.signals["x0"].counts) == 620


def test_what_can_not_be_right_is_counted_and_not_added() -> None:
    whole = window(SIGNED, NOON)
    wrong = (
        msgspec.structs.replace(whole, rows=499),
        msgspec.structs.replace(whole, rows=MOST_ROWS + 1),
        msgspec.structs.replace(whole, signals={"other": SignalCounts(counts=(500,))}),
        msgspec.structs.replace(whole, signals={}),
    )
    day = add(Day(), whole, NOON, SIGNED)
    for each in wrong:
        day = add(day, each, NOON, SIGNED)
    assert (day.unusable, day.rows, day.windows) == (4, 500, 1)
    assert day.problem is not None


def test_a_day_that_began_before_its_reference_was_known_never_stops_the_roll_up() -> None:
    odd = msgspec.structs.replace(window(SIGNED, NOON), signals={"odd": SignalCounts(counts=(500,))})
    day = add(Day(), odd, NOON, None)
    assert day.rows == 500
    day = add(day, window(SIGNED, NOON), NOON, SIGNED)
    assert (day.unusable, day.rows) == (1, 500)
    unsure = add(Day(), msgspec.structs.replace(odd, rows=501), NOON, None)
    assert unsure.unusable == 1


def test_levels_alarms_late_windows_and_merged_ones_are_counted() -> None:
    alarm = Alarm(level="drift", since=1, windows=2)
    day = add(Day(), window(SIGNED, NOON, shift=4, alarm=alarm), NOON + 2 * DAY, SIGNED)
    day = add(day, msgspec.structs.replace(window(SIGNED, NOON), merged=5), NOON, SIGNED)
    assert (day.drift, day.ok, day.alarms, day.late, day.windows) == (1, 1, 1, 1, 6)


def test_estimates_are_weighted_by_rows() -> None:
    day = Day()
    for accuracy, rows in ((0.9, 300), (0.6, 100)):
        estimate = AccuracyEstimate(
            accuracy=accuracy, low=accuracy - 0.1, high=accuracy + 0.1, level=0.95, rows=rows
        )
        day = add(day, window(SIGNED, NOON, estimate=estimate), NOON, SIGNED)
    assert day.accuracy is not None
    assert round(day.accuracy, 9) == 0.825
    assert day.estimate_rows == 400
