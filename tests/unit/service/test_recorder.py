"""Recording: in order, durable when awaited, counted where it can't be."""

import asyncio
from typing import cast

from msgspec.structs import replace

from agent.protocol.telemetry import Event
from agent.service.recorder import HELD_SAMPLES, QUEUE_BODIES, TelemetryRecorder
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.outbox import Outbox, Recordable
from tests.unit.service.world import Journal
from tests.unit.store.bodies import HEALTH


def event(text: str, deployment: str | None = None, kind: str = "test") -> Event:
    return Event(time=1.0, severity="info", kind=kind, text=text, model="digits", deployment=deployment)


class BrokenOutbox:
    """A disk that refuses the first writes."""

    def __init__(self, refuses: int) -> None:
        self.journal = Journal()
        self.refuses = refuses

    async def append(self, *bodies: Recordable) -> tuple[int, ...]:
        if self.refuses:
            self.refuses -= 1
            raise OSError(28, "No space left on device")
        for body in bodies:
            assert isinstance(body, Event)
            self.journal.note(body.text)
        return tuple(range(len(bodies)))


def recorder_of(database: Database, counted: list[str]) -> TelemetryRecorder:
    outbox = Outbox(database, device="camera-1", maximum_bytes=1 << 20)
    return TelemetryRecorder(outbox, EventLog(database), counted.append)


async def test_what_was_recorded_is_in_the_outbox_and_in_the_local_log(database: Database) -> None:
    counted: list[str] = []
    await recorder_of(database, counted).record(event("hello"))
    assert [each.text for each in await EventLog(database).newest(5)] == ["hello"]
    batch = await Outbox(database, device="camera-1", maximum_bytes=1 << 20).next_batch()
    assert batch is not None
    assert [record.body for record in batch.records] == [event("hello")]
    assert counted == []


async def test_an_outcome_is_recorded_once_however_often_it_comes(database: Database) -> None:
    recorder = recorder_of(database, [])
    await recorder.record_once(event("committed", "d1", "deployment-outcome"))
    await recorder_of(database, []).record_once(event("committed", "d1", "deployment-outcome"))
    await recorder.record_once(event("taken back", "d1", "deployment-reversed"))
    await recorder.record_once(event("committed", "d2", "deployment-outcome"))
    texts = [each.text for each in await EventLog(database).newest(9)]
    assert sorted(texts) == ["committed", "committed", "taken back"]


async def test_callbacks_are_recorded_in_their_order_and_nothing_is_left_at_the_end(
    database: Database,
) -> None:
    recorder = recorder_of(database, [])
    for number in range(20):
        recorder.record_soon(event(str(number)))
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    texts = [each.text for each in await EventLog(database).newest(100)]
    assert texts == [str(number) for number in reversed(range(20))]


async def transactions(database: Database) -> int:
    """How often the database was written, by its own count of changes that another connection sees."""
    return await database.read(
        lambda connection: int(connection.execute("PRAGMA data_version").fetchone()[0])
    )


async def test_what_waits_goes_in_one_transaction_and_health_goes_along(database: Database) -> None:
    recorder = recorder_of(database, [])
    before = await transactions(database)
    for number in range(HELD_SAMPLES - 1):
        await recorder.record_health(replace(HEALTH, time=float(number)))
    assert await transactions(database) == before, "nothing was written for health alone"
    for number in range(20):
        recorder.record_soon(event(str(number)))
    task = asyncio.create_task(recorder.run())
    while len(await EventLog(database).newest(100)) < 20:  # noqa: ASYNC110 - another thread's work
        await asyncio.sleep(0.01)
    assert await transactions(database) == before + 1
    batch = await Outbox(database, device="camera-1", maximum_bytes=1 << 20).next_batch()
    assert batch is not None
    assert len(batch.records) == 20 + HELD_SAMPLES - 1
    task.cancel()
    await asyncio.wait({task})


async def test_health_alone_is_written_after_a_few_samples_and_at_the_end(database: Database) -> None:
    recorder = recorder_of(database, [])
    outbox = Outbox(database, device="camera-1", maximum_bytes=1 << 20)
    for number in range(HELD_SAMPLES + 1):
        await recorder.record_health(replace(HEALTH, time=float(number)))
    assert (await outbox.report()).pending == HELD_SAMPLES
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert (await outbox.report()).pending == HELD_SAMPLES + 1


async def test_one_body_that_can_not_be_recorded_takes_no_other_with_it(database: Database) -> None:
    counted: list[str] = []
    recorder = recorder_of(database, counted)
    for body in (event("a"), cast(Event, object()), event("b")):
        recorder.record_soon(body)
    task = asyncio.create_task(recorder.run())
    task.cancel()
    await asyncio.wait({task})
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert [each.text for each in await EventLog(database).newest(9)] == ["b", "a"]
    assert counted == ["telemetry-not-recorded"]


async def test_a_disk_that_refuses_is_counted_and_stops_nothing() -> None:
    counted: list[str] = []
    outbox = BrokenOutbox(refuses=2)  # both together, then the first alone
    recorder = TelemetryRecorder(outbox, NoEvents(), counted.append)
    task = asyncio.create_task(recorder.run())
    recorder.record_soon(event("lost"))
    recorder.record_soon(event("kept"))
    await outbox.journal.until_noted("kept")
    assert counted == ["telemetry-not-recorded"]
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})


async def test_more_than_can_wait_is_counted() -> None:
    counted: list[str] = []
    recorder = TelemetryRecorder(BrokenOutbox(refuses=0), NoEvents(), counted.append)
    for number in range(QUEUE_BODIES + 3):
        recorder.record_soon(event(str(number)))
    assert counted == ["telemetry-queue-full"] * 3


class NoEvents:
    async def newest(self, limit: int, *, model: str | None = None) -> list[Event]:
        del limit, model
        return []
