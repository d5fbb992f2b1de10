import sqlite3

from msgspec.structs import replace

from agent.protocol.telemetry import Window
from agent.store.database import Database
from agent.store.open_windows import OpenWindowStore
from agent.store.outbox import Outbox
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
