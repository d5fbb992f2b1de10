"""Sending: a record leaves the outbox when the hub says that it has it, and not before. The outbox is the real one."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from msgspec.structs import replace

from agent.core.sending import DAY, HOUR, Pace
from agent.protocol.batch_codec import ReceivedBatch, decode_envelope
from agent.protocol.ledger import BudgetReport, Thinning
from agent.protocol.telemetry import Event, Health, Severity, TelemetryAck, Window
from agent.protocol.topics import Channel
from agent.service import telemetry_sync
from agent.service.telemetry_sync import TelemetrySync
from agent.store.database import Database
from agent.store.outbox import Outbox
from agent.transport.errors import LinkDownError
from tests.unit.service.world import Journal
from tests.unit.store.bodies import HEALTH, window

NOW = 1_795_000_000.0


def event(number: int, severity: Severity = "info") -> Event:
    return Event(time=float(number), severity=severity, kind="test", text=f"event {number}")


class Budget:
    """Says how the month stands, as it is told to."""

    def __init__(self) -> None:
        self.thinning: Thinning | None = None
        self.settled = 0

    async def look(self) -> BudgetReport | None:
        if self.thinning is None:
            return None
        return BudgetReport(
            month="2026-11", monthly_bytes=9, used_bytes=8, left_bytes=1, thinning=self.thinning
        )

    async def settle(self) -> None:
        self.settled += 1


class Hub:
    """The far end of a link: takes batches, and acknowledges those that it is told to."""

    def __init__(self, outbox: Outbox) -> None:
        self.journal = Journal()
        self.outbox = outbox
        self.budget = Budget()
        self.is_connected = True
        self.is_metered = False
        self.answers = True
        self.fails = 0
        self.batches: list[ReceivedBatch] = []
        self.sync = self.syncing(Pace(urgent=1_000.0, others=1_000.0))
        self.emptied = 0

    def syncing(self, pace: Pace) -> TelemetrySync:
        sync = TelemetrySync(
            self.outbox, self, pace=pace, budget=self.budget, metered=self.metered, clock=lambda: NOW
        )
        self.outbox.appended = sync.appended
        self.sync = sync
        return sync

    async def metered(self) -> bool:
        return self.is_metered

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
    return Hub(Outbox(database, device="camera-1", maximum_bytes=1 << 20, clock=lambda: NOW))


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
    await hub.outbox.append(*(event(number) for number in range(600)))
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
    hub.syncing(Pace(urgent=0.01, others=0.01))
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


async def test_what_is_urgent_goes_soon_and_takes_the_rest_along(hub: Hub) -> None:
    hub.syncing(Pace(urgent=0.01, others=1_000.0))
    async with sending(hub):
        await hub.outbox.append(event(1), HEALTH)
        await asyncio.sleep(0.1)
        assert hub.batches == []
        await hub.outbox.append(event(2, "error"))
        await hub.journal.until_noted("emptied")
    assert hub.sequences == [3, 1, 2]


async def test_what_comes_while_the_rest_is_sent_is_not_forgotten(hub: Hub) -> None:
    hub.syncing(Pace(urgent=0.01, others=0.01))
    await hub.outbox.append(event(1))

    async def settle() -> None:
        """Between the last batch and the end of the round."""
        if len(hub.sequences) == 1:
            await hub.outbox.append(event(2))

    hub.budget.settle = settle  # type: ignore[method-assign]
    async with sending(hub):
        await hub.journal.until(lambda: hub.emptied == 2)
    assert hub.sequences == [1, 2]


@pytest.mark.parametrize("costs", ["metered", "short"])
async def test_on_a_line_that_costs_and_while_bytes_are_short_it_waits_longer(hub: Hub, costs: str) -> None:
    hub.syncing(Pace(urgent=0.05, others=0.05))
    hub.is_metered, hub.budget.thinning = costs == "metered", "quarter-days" if costs == "short" else None
    async with sending(hub):
        hub.sync.wake()
        await asyncio.sleep(0.1)
        await hub.outbox.append(event(1))
        begun = time.monotonic()
        await hub.journal.until_noted("batch")
    assert time.monotonic() - begun > 5 * 0.05


async def test_while_the_hub_does_not_answer_it_asks_ever_more_rarely_and_with_little(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_sync, "ACK_SECONDS", 0.01)
    hub.syncing(Pace(urgent=0.02, others=0.02))
    hub.answers = False
    await hub.outbox.append(*(event(number) for number in range(10)))
    times: list[float] = []
    async with sending(hub):
        for number in range(1, 6):
            await hub.journal.until(lambda number=number: len(hub.batches) >= number)  # type: ignore[misc]
            times.append(time.monotonic())
        assert [len(batch.records) for batch in hub.batches] == [10, 1, 10, 1, 10]
        waits = [later - earlier for earlier, later in pairwise(times)]
        for attempt, wait in enumerate(waits):
            assert wait >= 0.02 * 2**attempt / 2
        hub.answers = True
        hub.sync.heard()
        await hub.journal.until_noted("emptied")
    assert (await hub.outbox.report()).acknowledged == 10


async def test_who_waits_for_a_hub_that_was_away_tries_again_when_it_is_heard(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_sync, "ACK_SECONDS", 0.01)
    monkeypatch.setattr(telemetry_sync, "HEARD_SECONDS", 0.05)
    hub.syncing(Pace(urgent=500.0, others=500.0))
    hub.answers = False
    await hub.outbox.append(event(1))
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("batch")
        await asyncio.sleep(0.05)
        hub.answers = True
        hub.sync.heard()
        await hub.journal.until_noted("emptied")
    assert hub.sequences == [1, 1]


def calm(hour: float) -> Window:
    closed = NOW - NOW % DAY + hour * HOUR
    return Window(window=window(closed=closed, level="ok"))


@pytest.mark.parametrize(("thinning", "merged"), [("quarter-days", [6, 6, 4]), ("days", [16])])
async def test_bytes_that_get_short_merge_what_waits_and_lose_nothing(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, thinning: Thinning, merged: list[int]
) -> None:
    recorded = NOW - 2 * DAY
    monkeypatch.setattr(hub.outbox, "_clock", lambda: recorded)
    await hub.outbox.append(*(calm(hour + 0.5) for hour in range(16)))
    await hub.outbox.append(*(replace(HEALTH, time=recorded + 300.0 * number) for number in range(12)))
    await hub.outbox.append(Window(window=window()), event(1))
    monkeypatch.setattr(hub.outbox, "_clock", lambda: NOW)
    hub.budget.thinning = thinning
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    bodies = [record.body for batch in hub.batches for record in batch.records]
    windows = [body.window for body in bodies if isinstance(body, Window)]
    assert windows[0] == window(), "drift goes first, and as it is"
    assert [one.merged for one in windows[1:]] == merged
    assert sum(one.rows for one in windows[1:]) == 16 * 500
    assert sum(body.merged for body in bodies if isinstance(body, Health)) == 12
    report = await hub.outbox.report()
    assert (report.recorded, report.pending, report.dropped) == (30, 0, {})
    assert report.acknowledged + sum(report.merged.values()) == 30
    assert report.merged["window"] == 16 - len(merged)
    assert hub.budget.settled == 1


async def test_what_could_still_be_merged_waits_until_its_time_is_over(hub: Hub) -> None:
    hub.budget.thinning = "days"
    await hub.outbox.append(calm(1.0), HEALTH, event(1), Window(window=window()))
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    assert sorted(hub.sequences) == [3, 4]


async def test_the_last_bytes_are_for_what_is_urgent(hub: Hub) -> None:
    hub.budget.thinning = "urgent-only"
    await hub.outbox.append(calm(1.0), HEALTH, event(1), event(2, "error"), Window(window=window()))
    async with sending(hub):
        hub.sync.wake()
        await hub.journal.until_noted("emptied")
    assert hub.sequences == [5, 4]
    assert (await hub.outbox.report()).pending == 3


async def test_nothing_at_all_is_sent_where_the_owner_says_so(hub: Hub) -> None:
    hub.budget.thinning = "nothing"
    await hub.outbox.append(event(2, "error"))
    async with sending(hub):
        hub.sync.wake()
        await asyncio.sleep(0.05)
    assert hub.batches == []
    report = await hub.outbox.report()
    assert (report.pending, report.dropped) == (1, {})
