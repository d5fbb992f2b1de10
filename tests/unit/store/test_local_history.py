"""What the device keeps for its technician, and its bounds."""

import sqlite3

import msgspec
import pytest

from agent.protocol.telemetry import TelemetryAck, Window
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.history import AT_ONCE, DAY, KEEP_RELEASES, KEEP_STATES, Keep
from agent.store.outbox import Outbox
from agent.store.windows import WindowLog
from tests.unit.store.bodies import HEALTH, closed, event, window

NOW = 1_795_000_000.0


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def outbox(database: Database, clock: Clock | None = None, keep: Keep | None = None) -> Outbox:
    return Outbox(
        database,
        device="cam-1",
        maximum_bytes=1_000_000,
        clock=clock or Clock(100.0),
        keep=keep or Keep(bytes=1 << 30, days=90.0),
    )


async def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    return await database.read(lambda connection: connection.execute(query).fetchall())


async def test_events_and_windows_are_read_back_by_model(database: Database) -> None:
    box = outbox(database)
    for body in (event("a", "digits"), event("b"), event("c", "faces")):
        await box.append(body)
    for one in (window("faces"), window("digits", psi=0.1), window("digits", closed=3.0)):
        await box.append(Window(window=one))
    events, windows = EventLog(database), WindowLog(database)
    assert [one.text for one in await events.newest(2)] == ["c", "b"]
    assert [one.text for one in await events.newest(9, model="digits")] == ["a"]
    assert await windows.latest() == [window("digits", closed=3.0), window("faces")]
    assert await windows.latest("faces") == [window("faces")]
    assert await windows.history("digits", 9) == [window("digits", closed=3.0), window("digits", psi=0.1)]


async def test_slices_are_windows_of_their_own(database: Database) -> None:
    box, windows = outbox(database), WindowLog(database)
    night, day = (window(closed=at, slice=f"shift={name}") for at, name in ((5.0, "night"), (6.0, "day")))
    for one in (window(), window(closed=4.0), night, day, msgspec.structs.replace(night, closed=7.0)):
        await box.append(closed(one))
    assert await windows.latest("digits") == [window(closed=4.0)]
    assert await windows.slices("digits") == [
        window(closed=4.0),
        day,
        msgspec.structs.replace(night, closed=7.0),
    ]
    assert await rows(database, "SELECT slice, closed_utc FROM drift_latest") == [
        ("whole", "1970-01-01 00:00:04"),
        ("shift=day", "1970-01-01 00:00:06"),
        ("shift=night", "1970-01-01 00:00:07"),
    ]


async def test_the_newest_drift_state_of_each_slice_is_kept(database: Database) -> None:
    box, windows = outbox(database), WindowLog(database)
    await box.append(closed(window(), b"old"), closed(window(slice="shift=day"), b"day"))
    await box.append(closed(window(), b"new"), closed(window("faces"), b"other"), closed(window()))
    assert sorted(await windows.every_drift_state()) == [
        ("digits", 2, "", b"new"),
        ("digits", 2, "shift=day", b"day"),
        ("faces", 2, "", b"other"),
    ]


async def test_the_views_show_what_is_stored(database: Database) -> None:
    box = outbox(database)
    await box.append(
        event("a", "digits"), closed(window()), HEALTH, msgspec.structs.replace(HEALTH, cpu_percent=4.0)
    )
    assert await rows(
        database,
        "SELECT model, level, rows, closed_utc, slice, incomplete, alarm, alarm_since_utc, changed, moved_most, accuracy, "
        "accuracy_low, accuracy_high FROM drift_latest",
    ) == [
        (
            *("digits", "drift", 500, "1970-01-01 00:00:02", "whole", 0, "drift", "1970-01-01 00:00:01"),
            *("brightness", "brightness (psi 0.5)", 0.9, 0.8, 0.95),
        )
    ]
    full = "model, signal, level, psi, js, ks, wasserstein, p_value, test, missing_rate, not_finite_rate, outside_rate, constant"
    for view in ("drift_signals_latest", "drift_signals_history"):
        assert await rows(database, f"SELECT {full} FROM {view}") == [
            ("digits", "brightness", "drift", 0.5, 0.2, 0.3, 1.5, 0.001, "ks", 0.0, 0.25, 0.1, 1)
        ]
    assert await rows(database, "SELECT time_utc, text FROM events_readable") == [
        ("1970-01-01 00:00:05", "a")
    ]
    assert await rows(database, "SELECT time_utc, cpu_percent FROM health_readable") == [
        ("1970-01-01 00:00:01", 4.0),
        ("1970-01-01 00:00:01", 1.0),
    ]
    assert await rows(database, "SELECT hour_utc, samples, cpu_percent FROM health_hourly") == [
        ("1970-01-01 00:00", 2, 2.5)
    ]
    assert await rows(
        database, "SELECT recorded, acknowledged, pending, dropped, merged FROM outbox_ledger"
    ) == [(4, 0, 4, 0, 0)]
    await box.next_batch(maximum_records=2)
    assert await rows(database, "SELECT kind, records, offered FROM outbox_waiting") == [
        ("window", 1, 1),
        ("event", 1, 1),
        ("health", 2, 0),
    ]
    await box.append(event("x" * 40_000))
    assert await rows(database, "SELECT sequence, kind, reason FROM quarantine_readable") == [
        (5, "event", "40115 bytes, at most 32728 are allowed")
    ]
    assert await rows(database, "SELECT * FROM outbox_dropped") == [("dropped", "oversized", 1)]


async def test_what_is_older_than_the_days_goes_and_what_waits_for_the_hub_stays(database: Database) -> None:
    clock = Clock()
    box = outbox(database, clock, Keep(bytes=1 << 30, days=2.0))
    old = msgspec.structs.replace(HEALTH, time=NOW)
    await box.append(
        closed(window(closed=NOW), b"state"), old, msgspec.structs.replace(event("old"), time=NOW)
    )
    clock.now += 1.5 * DAY
    await box.append(closed(window("faces", closed=clock.now)))
    assert len(await rows(database, "SELECT * FROM windows")) == 2
    clock.now += 1.0 * DAY
    await box.append(msgspec.structs.replace(event("new"), time=clock.now))
    assert await rows(database, "SELECT model FROM windows") == [("faces",)]
    assert await rows(database, "SELECT DISTINCT window FROM verdicts") == [(2,)]
    assert await rows(database, "SELECT * FROM health") == []
    assert await rows(database, "SELECT text FROM events") == [("new",)]
    assert await rows(database, "SELECT model, state FROM drift_states") == [("digits", b"state")]
    report = await box.report()
    assert (report.recorded, report.pending) == (5, 5)


async def test_what_was_made_before_the_clock_was_set_is_as_old_as_what_came_after(
    database: Database,
) -> None:
    clock = Clock()
    box = outbox(database, clock)
    await box.append(event("started"))
    assert await rows(database, "SELECT text FROM events") == [("started",)], "of 1970, and kept"
    await box.append(msgspec.structs.replace(event("set"), time=NOW))
    clock.now += 100 * DAY
    await box.append(msgspec.structs.replace(event("later"), time=clock.now))
    assert await rows(database, "SELECT text FROM events") == [("later",)]


async def test_a_clock_that_jumps_ahead_takes_a_part_only(database: Database) -> None:
    clock = Clock()
    box = outbox(database, clock)
    many = [msgspec.structs.replace(event(str(number)), time=NOW) for number in range(AT_ONCE + 500)]
    await box.append(*many)
    clock.now += 1_000 * DAY
    await box.append(msgspec.structs.replace(event("far"), time=clock.now))
    assert await rows(database, "SELECT count(*) FROM events") == [(501,)]


@pytest.mark.parametrize("limit", [400_000, 600_000])
async def test_the_history_keeps_its_bound_of_bytes_and_the_file_becomes_smaller(
    database: Database, limit: int
) -> None:
    empty = await size(database)
    box = outbox(database)
    for start in range(0, 800, 50):
        await box.append(
            *(closed(window(closed=NOW + number)) for number in range(start, start + 50)),
            *(
                msgspec.structs.replace(event("x" * 500), time=NOW + number)
                for number in range(start, start + 50)
            ),
            *(msgspec.structs.replace(HEALTH, time=NOW + number) for number in range(start, start + 50)),
        )
    while (batch := await box.next_batch()) is not None:
        sequences = tuple(record.sequence for record in batch.records)
        await box.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=sequences))
    before = await size(database)
    assert before - empty > 2 * limit
    bounded = outbox(database, keep=Keep(bytes=limit, days=90.0))
    await bounded.append(msgspec.structs.replace(event("newest"), time=NOW + 1_001))
    used, free = await size(database), await rows(database, "PRAGMA freelist_count")
    assert free <= [(64,)]
    assert limit / 2 < used - empty - 64 * 4096 <= limit
    assert (await EventLog(database).newest(1))[0].text == "newest"
    kept = await WindowLog(database).history(None, 1_000)
    assert kept
    assert kept[0].closed == NOW + 799, "the oldest went first"


async def size(database: Database) -> int:
    ((pages,),) = await rows(database, "PRAGMA page_count")
    assert isinstance(pages, int)
    return pages * 4096


async def test_a_clock_that_is_wrong_by_years_makes_no_detector_begin_anew(database: Database) -> None:
    clock = Clock()
    box = outbox(database, clock)
    for release in range(1, KEEP_RELEASES + 2):
        clock.now += 1.0
        of_release = msgspec.structs.replace(window(), release=release)
        await box.append(
            closed(of_release, b"whole"), closed(msgspec.structs.replace(of_release, slice="a=b"), b"s")
        )
    await box.append(closed(window("faces"), b"other"))
    clock.now += 1_000 * DAY
    await box.append(event("of the future"))
    states = await rows(database, "SELECT model, release, count(*) FROM drift_states GROUP BY model, release")
    assert states == [*(("digits", release, 2) for release in range(2, KEEP_RELEASES + 2)), ("faces", 2, 1)]


async def test_states_are_bounded_whatever_models_there_were(database: Database) -> None:
    box = outbox(database)
    await box.append(*(closed(window(f"m-{number}"), b"x") for number in range(KEEP_STATES + 9)))
    assert await rows(database, "SELECT count(*) FROM drift_states") == [(KEEP_STATES,)]


@pytest.mark.parametrize(
    "body", [b'{"model":1}', b"\xff\xfe", b'{"model":"digits","release":1', b"[" * 100_000]
)
async def test_a_stored_window_that_can_not_be_read_is_left_out_and_told_once(
    database: Database, body: bytes
) -> None:
    await outbox(database).append(closed(window("faces")), closed(window("digits")))

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE windows SET body = ? WHERE model = 'digits'", (body,))

    await database.write(spoil)
    windows, told = WindowLog(database), list[str]()
    windows.unreadable = told.append
    for _ in range(2):
        assert await windows.latest() == [window("faces")]
        assert await windows.history(None, 9) == [window("faces")]
        assert await windows.slices("digits") == []
    assert told == ["window-unreadable"]
