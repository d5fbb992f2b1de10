import math
import sqlite3

from msgspec.structs import replace

from agent.protocol.drift import AccuracyEstimate, SignalCounts
from agent.protocol.telemetry import Window
from agent.store.database import Database
from agent.store.open_windows import OpenWindowStore, open_key
from agent.store.outbox import Outbox
from agent.store.windows import WindowLog
from tests.unit.store.bodies import closed, window

SO_FAR = closed(replace(window(), incomplete=True, rows=120))


def outbox(database: Database) -> Outbox:
    return Outbox(database, device="cam-1", maximum_bytes=1_000_000)


async def recorded(box: Outbox) -> list[tuple[str | None, int, bool]]:
    batch = await box.next_batch()
    bodies = [] if batch is None else [record.body for record in batch.records]
    found = [body.window for body in bodies if isinstance(body, Window)]
    return [(one.slice, one.rows, one.incomplete) for one in found]


async def test_what_is_open_when_the_agent_dies_is_recorded_once(database: Database) -> None:
    await OpenWindowStore(database).keep([SO_FAR])
    assert await outbox(database).close_left_open() == 1
    assert await outbox(database).close_left_open() == 0
    assert await recorded(outbox(database)) == [(None, 120, True)]


async def test_a_window_that_closes_is_not_left_open(database: Database) -> None:
    store, box = OpenWindowStore(database), outbox(database)
    slice_ = closed(replace(SO_FAR.window, slice="site=north", rows=40))
    await store.keep([SO_FAR, slice_])
    await box.append(closed(window()))
    await box.close_left_open()
    assert sorted(await recorded(box), key=str) == [("site=north", 40, True), (None, 500, False)]


async def test_the_newest_word_replaces_the_one_before(database: Database) -> None:
    store, box = OpenWindowStore(database), outbox(database)
    await store.keep([SO_FAR])
    await store.keep([closed(replace(SO_FAR.window, rows=180))])
    await box.close_left_open()
    assert await recorded(box) == [(None, 180, True)]


async def test_what_another_agent_wrote_stops_nobody(database: Database) -> None:
    await OpenWindowStore(database).keep([SO_FAR])

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE open_windows SET body = x'c1'")

    await database.write(spoil)
    assert await outbox(database).close_left_open() == 0


async def test_a_window_that_is_too_large_to_send_stays_in_the_history_and_is_closed(
    database: Database,
) -> None:
    counts = SignalCounts(counts=(100,) * 5, missing=0)
    large = replace(window(), signals={f"signal-{each}": counts for each in range(6_000)})
    await OpenWindowStore(database).keep([closed(replace(large, incomplete=True, rows=400))])
    box = outbox(database)
    await box.append(closed(large, b"state"))
    assert await box.close_left_open() == 0
    assert (await box.report()).dropped == {"oversized": 1}
    assert await WindowLog(database).latest() == [large]
    assert await WindowLog(database).every_drift_state() == [("digits", large.release, "", b"state")]
    assert await recorded(box) == []


async def test_a_window_that_json_can_not_carry_is_closed_too(database: Database) -> None:
    await OpenWindowStore(database).keep([SO_FAR])
    box = outbox(database)
    estimate = AccuracyEstimate(accuracy=math.nan, low=0.0, high=1.0, level=0.95, rows=9)
    await box.append(closed(replace(window(), estimate=estimate)))
    assert await box.close_left_open() == 0
    assert (await box.report()).dropped == {"unreadable": 1}


async def test_the_next_window_is_kept_beside_one_whose_end_is_not_recorded_yet(database: Database) -> None:
    store, box = OpenWindowStore(database), outbox(database)
    following = closed(replace(SO_FAR.window, opened=SO_FAR.window.opened + 60, rows=3))
    await store.keep([SO_FAR])
    await store.keep([following])
    await box.append(closed(replace(SO_FAR.window, incomplete=False, rows=500)))
    await box.close_left_open()
    assert await recorded(box) == [(None, 500, False), (None, 3, True)]


async def test_what_is_gone_is_forgotten(database: Database) -> None:
    store = OpenWindowStore(database)
    await store.keep([SO_FAR])
    await store.keep([], [open_key(SO_FAR.window)])
    assert await outbox(database).close_left_open() == 0
