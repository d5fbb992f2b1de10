"""Loops that wait for an event or a time: they end when told to, and a store that fails does not end them."""

import asyncio
import sqlite3

import pytest

from agent.core.sending import Pace, Spans
from agent.protocol.telemetry import TelemetryAck, TelemetryBatch
from agent.protocol.topics import Channel
from agent.service.telemetry_sync import TelemetrySync


class Link:
    is_connected = True

    async def publish(self, channel: Channel, payload: bytes) -> None:
        raise AssertionError("nothing to send")


class Outbox:
    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.broken = False

    async def thin(self, spans: Spans) -> int:
        raise AssertionError(f"nothing to save, yet thinned: {spans}")

    async def next_batch(
        self, maximum_bytes: int, *, maximum_records: int, urgent_only: bool, settled_before: Spans | None
    ) -> TelemetryBatch | None:
        del maximum_bytes, maximum_records, urgent_only, settled_before
        self.asked.set()
        if self.broken:
            raise sqlite3.OperationalError("database or disk is full")
        return None

    async def acknowledge(self, ack: TelemetryAck) -> None:
        raise AssertionError("nothing was sent")


class NoBudget:
    async def look(self) -> None: ...
    async def settle(self) -> None: ...


async def never() -> bool:
    return False


def sync_of(outbox: Outbox) -> TelemetrySync:
    return TelemetrySync(
        outbox, Link(), pace=Pace(urgent=60.0, others=60.0), budget=NoBudget(), metered=never
    )


async def nothing() -> None:
    return


@pytest.mark.parametrize("ticks", range(6))
async def test_a_stop_just_after_a_wake_is_not_swallowed(ticks: int) -> None:
    sync = sync_of(Outbox())
    task = asyncio.create_task(sync.run(nothing))
    for _ in range(3):
        await asyncio.sleep(0)
    sync.wake()
    for _ in range(ticks):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait((task,), timeout=2)
    assert task.cancelled(), f"cancelled {ticks} turns of the loop after the wake, and still running"


async def test_an_outbox_that_fails_is_asked_again_later() -> None:
    outbox = Outbox()
    outbox.broken = True
    sync = sync_of(outbox)
    task = asyncio.create_task(sync.run(nothing))
    for _ in range(2):
        outbox.asked.clear()
        sync.wake()
        await asyncio.wait_for(outbox.asked.wait(), 5)
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.wait((task,))
