"""Sending: a record leaves the outbox when the hub says that it has it, and not before. The outbox is the real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.protocol.batch_codec import ReceivedBatch, decode_envelope
from agent.protocol.telemetry import Event, TelemetryAck
from agent.protocol.topics import Channel
from agent.service import telemetry_sync
from agent.service.telemetry_sync import TelemetrySync
from agent.store.database import Database
from agent.store.outbox import Outbox
from agent.transport.errors import LinkDownError
from tests.unit.service.world import Journal


def event(number: int) -> Event:
    return Event(time=float(number), severity="info", kind="test", text=f"event {number}")


class Hub:
    """The far end of a link: takes batches, and acknowledges those that it is told to."""

    def __init__(self, outbox: Outbox) -> None:
        self.journal = Journal()
        self.outbox = outbox
        self.is_connected = True
        self.answers = True
        self.fails = 0
        self.batches: list[ReceivedBatch] = []
        self.sync = TelemetrySync(outbox, self, interval=1_000.0)
        self.emptied = 0

    async def publish(self, channel: Channel, payload: bytes) -> None:
        assert channel is Channel.TELEMETRY
        if self.fails:
            self.fails -= 1
            self.journal.note("down")
            raise LinkDownError("the link went down")
        batch = decode_envelope(payload)
        self.batches.append(batch)
        self.journal.note("batch")
        if self.answers:
            await self.acknowledge(batch)

    async def acknowledge(self, batch: ReceivedBatch) -> None:
        sequences = tuple(record.sequence for record in batch.records)
        await self.sync.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=sequences))

    async def sent(self) -> None:
        self.emptied += 1
        self.journal.note("emptied")

    @property
    def sequences(self) -> list[int]:
        return [record.sequence for batch in self.batches for record in batch.records]


@pytest.fixture
async def hub(database: Database) -> Hub:
    return Hub(Outbox(database, device="camera-1", maximum_bytes=1 << 20))


@asynccontextmanager
async def sending(hub: Hub) -> AsyncIterator[None]:
    task = asyncio.create_task(hub.sync.run(hub.sent))
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_everything_is_sent_in_order_and_let_go(hub: Hub) -> None:
    for number in range(600):
        await hub.outbox.append(event(number))
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    assert len(hub.batches) > 1
    assert hub.sequences == list(range(1, 601))
    report = await hub.outbox.report()
    assert (report.recorded, report.acknowledged, report.pending) == (600, 600, 0)
    assert hub.emptied == 1


async def test_a_batch_whose_acknowledgement_was_lost_is_sent_again(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_sync, "ACK_SECONDS", 0.02)
    await hub.outbox.append(event(1))
    hub.answers = False
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("batch")
        await asyncio.sleep(0.05)
        assert (await hub.outbox.report()).pending == 1
        hub.answers = True
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    assert hub.sequences == [1, 1], "the same record under the same key"
    assert (await hub.outbox.report()).acknowledged == 1


async def test_a_late_acknowledgement_counts_too(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_sync, "ACK_SECONDS", 0.02)
    await hub.outbox.append(event(1))
    hub.answers = False
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("batch")
        await asyncio.sleep(0.05)
        await hub.acknowledge(hub.batches[0])
    report = await hub.outbox.report()
    assert (report.acknowledged, report.pending) == (1, 0)


async def test_a_link_that_breaks_in_the_middle_loses_nothing(hub: Hub) -> None:
    await hub.outbox.append(event(1))
    hub.fails = 1
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("down")
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    assert hub.sequences == [1]


async def test_nothing_is_sent_while_the_link_is_down(hub: Hub) -> None:
    await hub.outbox.append(event(1))
    hub.is_connected = False
    async with sending(hub):
        hub.sync.wake()
        await asyncio.sleep(0.05)
        assert hub.batches == []
        hub.is_connected = True
        hub.sync.wake()
        await hub.journal.until_noted("emptied")


async def test_it_sends_by_itself_after_the_interval(hub: Hub) -> None:
    hub.sync = TelemetrySync(hub.outbox, hub, interval=0.01)
    await hub.outbox.append(event(1))
    async with sending(hub):
        await hub.journal.until_noted("emptied")


async def test_an_acknowledgement_of_another_epoch_lets_nothing_go(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_sync, "ACK_SECONDS", 0.02)
    await hub.outbox.append(event(1))
    await hub.sync.acknowledge(TelemetryAck(epoch="another", sequences=(1,)))
    assert (await hub.outbox.report()).pending == 1


async def test_what_the_hub_can_never_store_does_not_block_what_follows(hub: Hub) -> None:
    await hub.outbox.append(event(1))
    await hub.outbox.append(event(2))
    hub.answers = False
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("batch")
        epoch = hub.batches[0].epoch
        ack = TelemetryAck(epoch=epoch, sequences=(2,), refused={"1": "of no known kind"})
        await hub.sync.acknowledge(ack)
        await hub.journal.until_noted("emptied")
    report = await hub.outbox.report()
    assert (report.acknowledged, report.pending, report.dropped) == (1, 0, {"refused": 1})


async def test_an_empty_outbox_tells_nobody(hub: Hub) -> None:
    async with sending(hub):
        hub.sync.wake()
        await asyncio.sleep(0.05)
    assert (hub.emptied, hub.batches) == (0, [])
