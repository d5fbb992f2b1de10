import math

import msgspec
import pytest

from agent.protocol.codec import encode_json, encode_msgpack
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.telemetry import Body, TelemetryAck, Window
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.outbox import RENEW_SECONDS, Outbox
from tests.unit.store.bodies import HEALTH, closed, event, window


def outbox(database: Database, maximum: int = 1_000_000) -> Outbox:
    return Outbox(database, device="cam-1", maximum_bytes=maximum)


async def pending(box: Outbox) -> list[Body]:
    batch = await box.next_batch()
    return [] if batch is None else [record.body for record in batch.records]


async def test_records_leave_only_when_acknowledged(database: Database) -> None:
    box = outbox(database)
    assert await box.next_batch() is None
    assert (await box.append(event("a"), event("b")), await box.append(HEALTH)) == ((1, 2), (3,))
    batch = await box.next_batch()
    assert batch is not None
    assert (batch.device, [record.sequence for record in batch.records]) == ("cam-1", [1, 2, 3])
    assert await box.next_batch() == batch
    await box.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=(1, 2)))
    assert await pending(box) == [HEALTH]
    report = await box.report()
    assert (report.recorded, report.acknowledged, report.pending, report.dropped) == (3, 2, 1, {})


async def test_another_epoch_and_a_repeated_acknowledgement_change_nothing(database: Database) -> None:
    box = outbox(database)
    await box.append(event())
    batch = await box.next_batch()
    assert batch is not None
    await box.acknowledge(TelemetryAck(epoch="0000", sequences=(1,)))
    assert (await box.report()).pending == 1
    for _ in range(2):
        await box.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=(1, 77)))
    assert (await box.report()).acknowledged == 1


async def test_refused_by_the_hub_is_dropped_counted_and_kept_for_a_person(database: Database) -> None:
    box = outbox(database)
    await box.append(event())
    epoch = (await box.report()).epoch
    ack = TelemetryAck(epoch=epoch, sequences=(1,), refused={"1": "no such model", "x": "nonsense"})
    await box.acknowledge(ack)
    report = await box.report()
    assert (report.acknowledged, report.pending, report.dropped) == (0, 0, {"refused": 1})
    rows = await database.read(lambda c: c.execute("SELECT sequence, reason FROM quarantine").fetchall())
    assert rows == [(1, "no such model")]


async def test_over_the_bound_the_least_important_go_first_and_are_counted(database: Database) -> None:
    size = len(encode_json(Window(window=window())))
    box = outbox(database, maximum=size + 400)
    await box.append(HEALTH)
    await box.append(event("old"))
    await box.append(event("new"))
    await box.append(Window(window=window()))
    bodies = await pending(outbox(database))
    assert HEALTH not in bodies
    assert Window(window=window()) in bodies
    for number in range(20):
        await box.append(event(str(number)))
    bodies = await pending(outbox(database))
    assert Window(window=window()) in bodies, "a verdict outlives any number of events"
    assert bodies[1:] == [event("old"), event("new"), event("19")], "the hub may have what it was offered"
    report = await box.report()
    assert report.dropped["health"] == 1
    assert report.recorded == 24 == report.acknowledged + report.pending + sum(report.dropped.values())


async def test_what_is_on_its_way_to_the_hub_is_dropped_last(database: Database) -> None:
    size = len(encode_json(event("0")))
    box = outbox(database, maximum=3 * size)
    await box.append(event("0"))
    await box.next_batch()
    for number in range(1, 5):
        await box.append(event(str(number)))
    assert await pending(box) == [event("0"), event("3"), event("4")]


async def test_an_oversized_record_is_quarantined_and_the_others_go_on(database: Database) -> None:
    box = outbox(database)
    for text in ("x" * 40_000, "y" * 2 * MAX_MESSAGE_BYTES):
        await box.append(event(text))
    await box.append(event("fine"))
    assert await pending(box) == [event("fine")]
    report = await box.report()
    assert (report.dropped, report.quarantined) == ({"oversized": 2}, 2)
    assert (await EventLog(database).newest(10)) == [event("fine")]


async def test_a_record_that_json_can_not_carry_is_quarantined(database: Database) -> None:
    box = outbox(database)
    await box.append(msgspec.structs.replace(HEALTH, cpu_percent=math.nan))
    assert await pending(box) == []
    assert (await box.report()).dropped == {"unreadable": 1}


async def test_a_batch_has_the_most_important_first_and_of_one_rank_the_oldest(database: Database) -> None:
    box, calm = outbox(database), window(level="ok")
    await box.append(HEALTH, event("a"), Window(window=calm), event("e", severity="error"), event("b"))
    await box.append(closed(window()), Window(window=window(closed=9.0, level="warning")))
    assert await pending(box) == [
        Window(window=window()),
        Window(window=window(closed=9.0, level="warning")),
        Window(window=calm),
        event("e", severity="error"),
        event("a"),
        event("b"),
        HEALTH,
    ]
    batch = await box.next_batch(urgent_only=True)
    assert batch is not None
    assert [record.sequence for record in batch.records] == [6, 7, 4]
    batch = await box.next_batch(maximum_records=2)
    assert batch is not None
    assert [record.sequence for record in batch.records] == [6, 7]


async def test_whoever_waits_is_told_of_what_came_and_whether_it_is_urgent(database: Database) -> None:
    box, told = outbox(database), list[bool]()
    box.appended = told.append
    await box.append(HEALTH, event())
    await box.append(Window(window=window(level="insufficient data")))
    await box.append(HEALTH, event(severity="error"))
    await box.append(closed(window(level="warning")))
    assert told == [False, False, True, True]


async def test_a_record_of_another_version_does_not_block_the_queue(database: Database) -> None:
    box = outbox(database)
    await box.append(event("first"))
    await box.append(event("second"))
    await database.write(
        lambda c: c.execute("UPDATE outbox SET body = ? WHERE sequence = 1", (b'{"type":"?"}',))
    )
    assert await pending(box) == [event("second")]
    report = await box.report()
    assert (report.pending, report.dropped) == (1, {"unreadable": 1})


async def test_a_batch_keeps_its_bounds(database: Database) -> None:
    box = outbox(database, maximum=10_000_000)
    for _ in range(20):
        await box.append(event("x" * 10_000))
    with pytest.raises(ValueError, match="maximum_bytes=1000"):
        await box.next_batch(1000)
    batch = await box.next_batch(64 * 1024)
    assert batch is not None
    assert len(batch.records) == 6
    assert len(encode_msgpack(batch)) <= 64 * 1024
    for _ in range(300):
        await box.append(event("s"))
    await box.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=tuple(range(1, 21))))
    batch = await box.next_batch()
    assert batch is not None
    assert len(batch.records) == 256


async def test_what_waited_for_a_week_goes_under_a_new_number_unless_the_hub_may_know_the_old_one(
    database: Database,
) -> None:
    now = [1_795_000_000.0]
    box = Outbox(database, device="cam-1", maximum_bytes=1_000_000, clock=lambda: now[0])
    await box.append(event("offered"))
    await box.next_batch()
    await box.append(event("old"), HEALTH)
    now[0] += RENEW_SECONDS + 1
    await box.append(event("new"))
    batch = await box.next_batch()
    assert batch is not None
    numbers = {record.sequence: record.body for record in batch.records}
    assert numbers == {1: event("offered"), 4: event("new"), 5: event("old"), 6: HEALTH}
    assert await box.next_batch() is not None
    report = await box.report()
    assert (report.recorded, report.pending, report.merged) == (6, 4, {"event": 1, "health": 1})
