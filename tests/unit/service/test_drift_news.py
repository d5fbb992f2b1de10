"""Events of drift follow the alarm, not a single window's verdict."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.drift import alarm
from agent.protocol.drift import Alarm, CountPrivacy, DriftPolicy, DriftWindow, VerdictLevel
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Event
from agent.service.drift_news import MOST_NAMED, MOST_REMEMBERED, DriftNews
from agent.store.outbox import Recordable
from tests.unit.service.test_race_models import World
from tests.unit.store.bodies import window

POLICY = DriftPolicy(persistence=2, recovery=3)
OK: VerdictLevel = "ok"
WARNING: VerdictLevel = "warning"
DRIFT: VerdictLevel = "drift"
SILENT: VerdictLevel = "insufficient data"


def windows(*verdicts: VerdictLevel, **changes: Any) -> list[DriftWindow]:
    """Such windows, a minute each, with the alarm that follows."""
    state, found = alarm.AlarmState(), list[DriftWindow]()
    for minute, level in enumerate(verdicts, 1):
        state = alarm.step(state, level, minute * 60.0, POLICY)
        one = window(closed=minute * 60.0, level=level)
        found.append(replace(one, alarm=alarm.told(state), **changes))
    return found


def told(news: DriftNews, given: list[DriftWindow]) -> list[tuple[float, str, str]]:
    events = [event for one in given for event in news.of(one, one.closed)]
    assert {event.kind for event in events} <= {"drift"}
    return [(event.time // 60, event.severity, event.text) for event in events]


def test_a_window_that_flaps_is_no_news() -> None:
    assert told(DriftNews(), windows(OK, DRIFT, OK, DRIFT, OK, WARNING, OK, DRIFT, SILENT)) == []


def test_an_alarm_is_told_when_it_is_raised_and_when_it_is_over() -> None:
    given = windows(OK, DRIFT, DRIFT, OK, DRIFT, DRIFT, SILENT, OK, OK, OK, OK)
    assert told(DriftNews(), given) == [
        (3, "warning", "drift since 1970-01-01 00:03 UTC; brightness moved"),
        (10, "info", "drift is over since 1970-01-01 00:10 UTC; brightness moved"),
    ]


def test_an_alarm_that_rises_and_falls_by_a_level_is_told() -> None:
    given = windows(WARNING, WARNING, DRIFT, DRIFT, WARNING, WARNING, WARNING)
    found = [
        (minute, severity, text.split(" since")[0]) for minute, severity, text in told(DriftNews(), given)
    ]
    assert found == [
        (2, "warning", "warning"),
        (4, "warning", "drift (was warning)"),
        (7, "info", "warning (was drift)"),
    ]


def test_after_a_restart_nothing_is_told_twice() -> None:
    given = windows(OK, DRIFT, DRIFT, DRIFT, OK, OK, OK)
    news = DriftNews()
    news.remember(given[2])
    assert [minute for minute, _, _ in told(news, given[3:])] == [7]
    assert told(DriftNews(), given[3:4]) == [], "a slice, of which nothing is remembered: its alarm is old"
    assert len(told(DriftNews(), given[2:3])) == 1, "or it was raised just now"


def test_releases_and_slices_stand_by_themselves() -> None:
    news = DriftNews()
    sick = windows(DRIFT, DRIFT, slice="camera=left")
    assert [text.split(" since")[0] for _, _, text in told(news, sick)] == ["camera=left: drift"]
    assert len(told(news, windows(DRIFT, DRIFT))) == 1
    assert told(news, windows(OK, OK, release=3)) == [], "another release is no recovery"
    assert told(news, windows(DRIFT, DRIFT, DRIFT)[2:]) == [], "and a rollback no news"


def test_a_window_that_nobody_closed_is_no_news() -> None:
    news = DriftNews()
    cut = replace(window(level=DRIFT), incomplete=True, alarm=None)
    news.remember(cut)
    assert news.of(cut, 1.0) == []
    assert told(news, windows(DRIFT, DRIFT)) != []


def test_a_verdict_counts_where_there_is_no_alarm() -> None:
    given = [
        replace(window(closed=60.0 * minute, level=level), alarm=None)
        for minute, level in enumerate((OK, DRIFT, DRIFT, OK))
    ]
    assert told(DriftNews(), given) == [
        (1, "warning", "drift; brightness moved"),
        (3, "info", "drift is over; brightness moved"),
    ]


def test_signals_that_changed_abruptly_are_named_once_a_window() -> None:
    names = tuple(f"s{number}" for number in range(MOST_NAMED + 3))
    changed = Alarm(level=OK, since=1.0, windows=7, changed=names)
    (event,) = DriftNews().of(replace(window(level=OK, slice="site=north"), alarm=changed), 5.0)
    assert (event.kind, event.severity, event.model, event.release) == ("drift-changed", "info", "digits", 2)
    assert event.text == f"site=north: changed abruptly: {', '.join(names[:MOST_NAMED])} and 3 more"
    assert event.time == 5.0


def test_the_memory_is_bounded_and_a_strange_clock_is_survived() -> None:
    news = DriftNews()
    for number in range(3 * MOST_REMEMBERED):
        odd = Alarm(level=DRIFT, since=1e300, windows=1)
        (event,) = news.of(replace(window(level=DRIFT, slice=f"s={number}"), alarm=odd), 1.0)
        assert isinstance(event, Event)
    assert len(news._levels) <= MOST_REMEMBERED + 1


async def test_a_models_windows_make_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = list[Recordable]()
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ew") as folder:  # a Unix socket's path is short
        world = World(Path(folder))
        monkeypatch.setattr(world.models._recorder, "record_soon", recorded.append)
        await world.models.add(["digits"], world.supervise)
        for one in windows(DRIFT, OK, DRIFT, DRIFT):
            world.models._window(WindowClosed(window=one))
        for one in windows(DRIFT, DRIFT, slice="camera=left"):
            world.models._window(WindowClosed(window=one, privacy=CountPrivacy(mechanism="suppressed")))
        await world.end()
    events = [body.text for body in recorded if isinstance(body, Event) and body.kind == "drift"]
    assert events == [
        "drift since 1970-01-01 00:04 UTC; brightness moved",
        "camera=left: drift since 1970-01-01 00:02 UTC; brightness moved",  # the outbox sees to privacy
    ]
    assert sum(isinstance(body, WindowClosed) for body in recorded) == 6
