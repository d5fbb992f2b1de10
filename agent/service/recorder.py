"""Puts what happens into the outbox (and by it into the local logs), in order, without making anyone wait."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Protocol

from agent.protocol.telemetry import Body, Event
from agent.store.errors import StoreError

log = logging.getLogger(__name__)

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
        except (StoreError, sqlite3.Error, OSError):
            self._count("telemetry-not-recorded")
            log.exception("telemetry not recorded", extra={"kind": type(body).__name__})

    async def record_once(self, event: Event) -> None:
        """Record an outcome of a deployment, unless it stands in the local log: after a crash it may come twice."""
        recent = await self._events.newest(200, model=event.model)
        if not any((old.kind, old.deployment) == (event.kind, event.deployment) for old in recent):
            await self.record(event)

    async def run(self) -> None:
        """Record what was handed in by :meth:`record_soon`, until cancelled; then record what is left."""
        try:
            while True:
                await self.record(await self._waiting.get())
        finally:
            while not self._waiting.empty():
                await self.record(self._waiting.get_nowait())
