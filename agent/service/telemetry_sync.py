"""Sends the outbox to the hub: a batch, its acknowledgement, the next batch."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.protocol.batch_codec import encode_batch
from agent.protocol.telemetry import TelemetryAck, TelemetryBatch
from agent.protocol.topics import Channel
from agent.store.errors import StoreError
from agent.transport.errors import TransportError

log = logging.getLogger(__name__)

BATCH_BYTES = 64 * 1024
ACK_SECONDS = 10.0


class OutboxPort(Protocol):
    async def next_batch(self, maximum_bytes: int) -> TelemetryBatch | None: ...
    async def acknowledge(self, ack: TelemetryAck) -> None: ...


class LinkPort(Protocol):
    @property
    def is_connected(self) -> bool: ...
    async def publish(self, channel: Channel, payload: bytes) -> None: ...


class TelemetrySync:
    """A record leaves the outbox only when the hub has said that it committed it.

    An acknowledgement that does not come (hub away, message lost) leaves the batch where it is; it is sent again, and the
    hub recognises records it has by their key.
    """

    def __init__(self, outbox: OutboxPort, link: LinkPort, *, interval: float) -> None:
        self._outbox = outbox
        self._link = link
        self._interval = interval
        self._wake = asyncio.Event()
        self._acknowledged = asyncio.Event()

    def wake(self) -> None:
        """Send now: the link is up again, or a person asked."""
        self._wake.set()

    async def acknowledge(self, ack: TelemetryAck) -> None:
        """Take an acknowledgement from the hub."""
        await self._outbox.acknowledge(ack)
        self._acknowledged.set()

    async def run(self, on_sent: Callable[[], Awaitable[None]]) -> None:
        """Send until cancelled; ``on_sent`` is awaited when the outbox has become empty after sending."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    self._interval
                ):  # not wait_for: before 3.12 it may swallow a cancellation
                    await self._wake.wait()
            self._wake.clear()
            try:
                sent = self._link.is_connected and await self._send_all()
            except (StoreError, sqlite3.Error, OSError):
                log.exception("telemetry not sent: the outbox can't be read")  # models serve on
                continue
            if sent:
                await on_sent()

    async def _send_all(self) -> bool:
        sent = False
        while (batch := await self._outbox.next_batch(BATCH_BYTES)) is not None:
            self._acknowledged.clear()
            try:
                await self._link.publish(Channel.TELEMETRY, encode_batch(batch))
                async with asyncio.timeout(ACK_SECONDS):
                    await self._acknowledged.wait()
            except (TimeoutError, TransportError) as error:
                log.info(
                    "telemetry waits: no acknowledgement",
                    extra={"records": len(batch.records), "error": str(error)},
                )
                return sent
            sent = True
        return sent
