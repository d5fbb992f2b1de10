"""A window is open exactly while the wall clock shows a time in it, also where that clock is set forward or back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.maintenance import (
    DAYS,
    HORIZON_DAYS,
    MINUTES_A_DAY,
    MaintenanceWindow,
    Schedule,
    in_words,
)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Sao_Paulo",
)
"""Hours and half an hour of summer time, north and south of the equator, and none."""
MINUTE = 60


def unix(text: str, zone: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def schedule(*windows: str, zone: str = "Europe/Berlin") -> Schedule:
    parsed = tuple(MaintenanceWindow.parse(window) for window in windows)
    return Schedule(windows=parsed, zone=ZoneInfo(zone), zone_name=zone)


windows = st.builds(
    lambda days, begin, length: MaintenanceWindow(
        days=tuple(sorted(days)), begin=begin, end=(begin + length) % MINUTES_A_DAY or MINUTES_A_DAY
    ),
    days=st.sets(st.integers(0, 6), min_size=1),
    begin=st.integers(0, MINUTES_A_DAY - 1),
    length=st.integers(1, MINUTES_A_DAY - 1),
)
schedules = st.builds(
    lambda all_, zone: Schedule(windows=tuple(all_), zone=ZoneInfo(zone), zone_name=zone),
    st.lists(windows, min_size=1, max_size=2),
    st.sampled_from(ZONES),
)
around_changes = st.builds(
    lambda change, hours: datetime.fromisoformat(change).replace(tzinfo=UTC).timestamp() + hours * 3600,
    st.sampled_from(["2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-10-04"]),
    st.floats(-200, 30),
)
moments = st.one_of(around_changes, st.floats(1_767_225_600, 1_893_456_000))


def open_by_the_clock_on_the_wall(asked: Schedule, now: float) -> bool:
    """What the settings' documentation says, one minute at a time and without any arithmetic on days."""
    local = datetime.fromtimestamp(now, asked.zone)
    today, yesterday = local.weekday(), (local.date() - timedelta(days=1)).weekday()
    minute = local.hour * 60 + local.minute
    for window in asked.windows:
        over_midnight = window.end <= window.begin
        before_midnight = today in window.days and minute >= window.begin
        if before_midnight and (over_midnight or minute < window.end):
            return True
        if over_midnight and yesterday in window.days and minute < window.end:
            return True
    return False


@given(schedules, moments)
def test_it_is_open_while_the_wall_clock_shows_a_time_in_it(asked: Schedule, now: float) -> None:
    assert asked.is_open(now) == open_by_the_clock_on_the_wall(asked, now)


@given(schedules, moments, st.floats(0, 1))
@example(schedule("Sun 02:15-02:45"), unix("2026-03-28 12:00", "Europe/Berlin"), 0.5)
@example(schedule("Sun 02:30-04:00"), unix("2026-03-29 01:00", "Europe/Berlin"), 0.99)
@example(schedule("Sun 01:00-02:30"), unix("2026-10-25 02:45", "Europe/Berlin"), 0.99)
def test_it_opens_then_and_at_no_moment_before(asked: Schedule, now: float, share: float) -> None:
    opening = asked.next_opening(now)
    assert opening is not None
    assert now <= opening <= now + HORIZON_DAYS * 86_400
    assert asked.is_open(opening)
    before = now + (opening - now) * share
    assert opening == now or before >= opening or not asked.is_open(before)


@given(schedules, moments)
def test_no_opening_is_missed_minute_by_minute(asked: Schedule, now: float) -> None:
    opening = asked.next_opening(now)
    assert opening is not None
    last = min(opening, now + 36 * 3600)
    moment = now - now % MINUTE + MINUTE
    while moment < last:
        assert not asked.is_open(moment)
        moment += MINUTE


@pytest.mark.parametrize(
    ("window", "now", "opens"),
    [
        ("Sat 02:00-04:00", "2026-11-28 01:00", "2026-11-28T01:00:00+00:00"),
        ("Sat 02:00-04:00", "2026-11-28 04:00", "2026-12-05T01:00:00+00:00"),
        ("Fri 22:00-04:00", "2026-11-28 03:59", "2026-11-28T02:59:00+00:00"),
        # The clock goes from 02:00 to 03:00: no 02:15 that day, so it is the Sunday after;
        ("Sun 02:15-02:45", "2026-03-29 00:00", "2026-04-05T00:15:00+00:00"),
        # and it jumps into the middle of this one.
        ("Sun 02:30-04:00", "2026-03-29 00:00", "2026-03-29T01:00:00+00:00"),
        # The clock goes back from 03:00 to 02:00: there is a second 02:15,
        ("Sun 02:15-02:45", "2026-10-25 02:50", "2026-10-25T01:15:00+00:00"),
        # and this one opens again when the clock goes back into it.
        ("Sun 01:00-02:30", "2026-10-25 02:40", "2026-10-25T01:00:00+00:00"),
    ],
)
def test_days_on_which_the_clock_is_changed(window: str, now: str, opens: str) -> None:
    opening = schedule(window).next_opening(unix(now, "Europe/Berlin"))
    assert opening is not None
    assert datetime.fromtimestamp(opening, UTC).isoformat() == opens


@given(windows)
def test_a_window_reads_as_it_is_written(window: MaintenanceWindow) -> None:
    days = ",".join(DAYS[day].capitalize() for day in window.days)
    text = f"{days} {window.begin // 60:02}:{window.begin % 60:02}-{window.end // 60:02}:{window.end % 60:02}"
    assert MaintenanceWindow.parse(text) == window
    assert MaintenanceWindow.parse(window.words().replace(", ", ",")) == window


def test_days_go_over_the_weeks_end() -> None:
    assert MaintenanceWindow.parse("Fri-Mon 01:00-02:00").days == (0, 4, 5, 6)
    assert MaintenanceWindow.parse("daily 01:00-24:00").words() == "daily 01:00-24:00"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Sat 22:00-22:00", "begins when it ends"),
        ("Sat 24:00-01:00", "24:00 is only where one ends"),
        ("Sat 2:00-04:00", "expected days and a span"),
        ("Caturday 02:00-04:00", "expected days and a span"),
        ("daily,Sat 02:00-04:00", "expected days and a span"),
        ("Sat 02:00-25:00", "expected days and a span"),
        ("Sat 02:00-04:00\n", "expected days and a span"),
    ],
)
def test_what_is_no_window_is_refused_with_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MaintenanceWindow.parse(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (3599, "1 h"), (11_520, "3 h 12 min"),
        (7_200, "2 h"), (86_400, "1 d"), (187_200, "2 d 4 h"), (172_799, "2 d"),
    ],
)  # fmt: skip
def test_a_wait_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
