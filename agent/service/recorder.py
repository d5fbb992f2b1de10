"""Puts what happens into the outbox (and by it into the local logs), in order, without making anyone wait."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Protocol

from agent.protocol.telemetry import Body, Event
from agent.store.errors import StoreError

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts to record an outcome; the last one repeats."""
QUEUE_BODIES = 1_000
"""Bodies that may wait for the disk; beyond it the newest are dropped and counted."""


class OutboxPort(Protocol):
    async def append(self, body: Body) -> int: ...


class EventLogPort(Protocol):
    async def newest(self, limit: int, *, model: str | None = None) -> list[Event]: ...


class TelemetryRecorder:
    """Where telemetry enters. A disk that refuses is counted and logged; it never stops serving."""

    def __init__(self, outbox: OutboxPort, events: EventLogPort, count: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._events = events
        self._count = count
        self._waiting: asyncio.Queue[Body] = asyncio.Queue(QUEUE_BODIES)

    def record_soon(self, body: Body) -> None:
        """Record from a callback that can't wait."""
        try:
            self._waiting.put_nowait(body)
        except asyncio.QueueFull:
            self._count("telemetry-queue-full")

    async def record(self, body: Body) -> None:
        """Record now; durable when this returns, unless the disk refused (counted as ``telemetry-not-recorded``)."""
        try:
            await self._outbox.append(body)
        except Exception:  # whatever it is, models serve on
            self._count("telemetry-not-recorded")
            log.exception("telemetry not recorded", extra={"kind": type(body).__name__})

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
                recording = asyncio.ensure_future(self.record(await self._waiting.get()))
                try:
                    await asyncio.shield(recording)
                except asyncio.CancelledError:
                    await (
                        recording
                    )  # it has left the queue: a write that had not begun would be lost with its caller
                    raise
        finally:
            while not self._waiting.empty():
                await self.record(self._waiting.get_nowait())
