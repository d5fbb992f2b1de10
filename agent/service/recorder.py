"""Puts what happens into the outbox (and by it into the local logs), in order, without making anyone wait."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Protocol

from agent.protocol.telemetry import Event, Health
from agent.store.errors import StoreError
from agent.store.outbox import Recordable

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts to record an outcome; the last one repeats."""
QUEUE_BODIES = 1_000
"""Bodies that may wait for the disk; beyond it the newest are dropped and counted."""
TOGETHER = 64
"""Bodies of the queue that share one transaction."""
HELD_SAMPLES = 6
"""Samples of health that wait in memory for something else to be written with: every transaction costs flash, and a power
cut takes no more than these."""


class OutboxPort(Protocol):
    async def append(self, *bodies: Recordable) -> tuple[int, ...]: ...


class EventLogPort(Protocol):
    async def newest(self, limit: int, *, model: str | None = None) -> list[Event]: ...


class TelemetryRecorder:
    """Where telemetry enters. A disk that refuses is counted and logged; it never stops serving."""

    def __init__(self, outbox: OutboxPort, events: EventLogPort, count: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._events = events
        self._count = count
        self._waiting: asyncio.Queue[Recordable] = asyncio.Queue(QUEUE_BODIES)
        self._samples: list[Health] = []

    def record_soon(self, body: Recordable) -> None:
        """Record from a callback that can't wait."""
        try:
            self._waiting.put_nowait(body)
        except asyncio.QueueFull:
            self._count("telemetry-queue-full")

    async def record(self, body: Recordable) -> None:
        """Record now; durable when this returns, unless the disk refused (counted as ``telemetry-not-recorded``)."""
        await self._write([body])

    async def record_health(self, sample: Health) -> None:
        """Record with whatever is recorded next, or with the :data:`HELD_SAMPLES`-th sample; lost in a power cut before."""
        self._samples.append(sample)
        if len(self._samples) >= HELD_SAMPLES:
            await self._write([])

    async def _write(self, bodies: list[Recordable]) -> None:
        together: list[Recordable] = [*self._samples, *bodies]
        self._samples = []
        try:
            await self._outbox.append(*together)
        except Exception as error:  # whatever it is, models serve on
            if len(together) == 1:
                self._count("telemetry-not-recorded")
                log.exception("telemetry not recorded", extra={"kind": type(together[0]).__name__})
                return
            log.warning("telemetry not recorded together, so one by one", extra={"why": str(error)})
            for body in together:
                await self._write([body])

    async def record_once(self, event: Event) -> None:
        """Record an outcome of a deployment, unless it stands in the local log: after a crash it may come twice.

        Returns when it is durable. A disk that refuses is waited for: the hub must hear of each outcome.
        """
        attempt = 0
        while True:
            if await self._try_once(event):
                return
            await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    async def _try_once(self, event: Event) -> bool:
        try:
            recent = await self._events.newest(200, model=event.model)
            if not any((old.kind, old.deployment) == (event.kind, event.deployment) for old in recent):
                await self._outbox.append(event)
        except (StoreError, sqlite3.Error, OSError):
            self._count("telemetry-not-recorded")
            log.exception("outcome not recorded; tried again", extra={"deployment": event.deployment})
            return False
        return True

    async def run(self) -> None:
        """Record what was handed in by :meth:`record_soon`, until cancelled; then record what is left."""
        try:
            while True:
                recording = asyncio.ensure_future(self._write([await self._waiting.get(), *self._more()]))
                try:
                    await asyncio.shield(recording)
                except asyncio.CancelledError:
                    await (
                        recording
                    )  # it has left the queue: a write that had not begun would be lost with its caller
                    raise
        finally:
            while self._samples or not self._waiting.empty():
                await self._write(self._more())

    def _more(self) -> list[Recordable]:
        """What waits besides, as much as goes together."""
        many = min(TOGETHER, self._waiting.qsize())
        return [self._waiting.get_nowait() for _ in range(many)]
