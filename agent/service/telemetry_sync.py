"""Sends the outbox to the hub: a batch, its acknowledgement, the next batch; when, and how much, as :mod:`agent.core.sending` says."""

import asyncio
import contextlib
import logging
import math
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent.core.sending import SPANS, Pace, Spans, settled_before
from agent.protocol.batch_codec import encode_batch
from agent.protocol.ledger import BudgetReport, Thinning
from agent.protocol.limits import MAX_BATCH_RECORDS
from agent.protocol.telemetry import TelemetryAck, TelemetryBatch
from agent.protocol.topics import Channel
from agent.store.errors import StoreError
from agent.transport.backoff import Backoff
from agent.transport.errors import TransportError

log = logging.getLogger(__name__)

BATCH_BYTES = 64 * 1024
"""Before it is deflated."""
ACK_SECONDS = 10.0
LONGEST_BACKOFF_SECONDS = 300.0
HEARD_SECONDS = 2.0
"""Who waits because the hub did not answer, and hears from it, tries again within so much time; not all devices at once."""


class OutboxPort(Protocol):
    async def next_batch(
        self,
        maximum_bytes: int,
        *,
        maximum_records: int,
        urgent_only: bool,
        settled_before: Spans | None,
    ) -> TelemetryBatch | None: ...
    async def acknowledge(self, ack: TelemetryAck) -> None: ...
    async def thin(self, spans: Spans) -> int: ...


class LinkPort(Protocol):
    @property
    def is_connected(self) -> bool: ...
    async def publish(self, channel: Channel, payload: bytes) -> None: ...


class BudgetPort(Protocol):
    async def look(self) -> BudgetReport | None: ...
    async def settle(self) -> None: ...


class TelemetrySync:
    """A record leaves the outbox only when the hub has said that it committed it.

    An acknowledgement that does not come (hub away, message lost) leaves the batch where it is; it is sent again, later and
    later, and the hub recognises records it has by their key. While the hub does not answer it is asked with one record
    every other time: a line that costs is not filled for nobody.

    Args:
        outbox: what waits.
        link: to the hub.
        pace: how long records wait.
        budget: what may be spent.
        metered: whether the line costs by the byte; awaited before each round.
        clock: Unix seconds.
        randomness: for the jitter.
    """

    def __init__(
        self,
        outbox: OutboxPort,
        link: LinkPort,
        *,
        pace: Pace,
        budget: BudgetPort,
        metered: Callable[[], Awaitable[bool]],
        clock: Callable[[], float] = time.time,
        randomness: random.Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._link = link
        self._pace = pace
        self._budget = budget
        self._metered = metered
        self._clock = clock
        self._randomness = randomness or random.SystemRandom()
        self._backoff = Backoff(minimum=pace.urgent, maximum=max(pace.urgent, LONGEST_BACKOFF_SECONDS))
        self._changed = asyncio.Event()
        self._woken = False
        self._waits_since: float | None = time.monotonic()  # what an agent before this one left
        self._urgent_since: float | None = None
        self._costs = False
        self._failures = 0
        self._retry_at = 0.0
        self._in_flight: frozenset[int] = frozenset()
        self._acknowledged = asyncio.Event()

    def wake(self) -> None:
        """Send now: the link is up again, or a person asked."""
        self._woken = True
        self._changed.set()

    def appended(self, urgent: bool) -> None:  # noqa: FBT001 - a callback
        """Something was recorded."""
        now = time.monotonic()
        if self._waits_since is None:
            self._waits_since = now
        if urgent and self._urgent_since is None:
            self._urgent_since = now
        self._changed.set()

    def heard(self) -> None:
        """The hub has said something: if it was thought to be away, it is tried again soon."""
        if self._failures:
            soon = time.monotonic() + self._randomness.uniform(0.0, HEARD_SECONDS)
            self._retry_at = min(self._retry_at, soon)
            self._changed.set()

    async def acknowledge(self, ack: TelemetryAck) -> None:
        """Take an acknowledgement from the hub."""
        await self._outbox.acknowledge(ack)
        refused = {int(text) for text in ack.refused if text.isdecimal()}
        if not self._in_flight.isdisjoint(refused.union(ack.sequences)):
            self._acknowledged.set()

    async def run(self, on_sent: Callable[[], Awaitable[None]]) -> None:
        """Send until cancelled; ``on_sent`` is awaited when all that may be sent has been."""
        while True:
            await self._until_due()
            self._woken = False
            try:
                sent = self._link.is_connected and await self._round()
            except (StoreError, sqlite3.Error, OSError):
                log.exception("telemetry not sent: the outbox can't be read")  # models serve on
                self._failed()
                continue
            if sent:
                await on_sent()

    async def _until_due(self) -> None:
        while True:
            self._changed.clear()
            delay = self._delay()
            if delay <= 0:
                return
            with contextlib.suppress(TimeoutError):
                # not wait_for: before 3.12 it may swallow a cancellation
                async with asyncio.timeout(None if math.isinf(delay) else delay):
                    await self._changed.wait()

    def _delay(self) -> float:
        """Seconds until the next round."""
        if self._woken:
            return 0.0
        if not self._link.is_connected:
            return math.inf if self._waits_since is None else self._pace.others  # `wake` comes with the link
        if self._failures:
            return self._retry_at - time.monotonic()
        since = ((self._urgent_since, True), (self._waits_since, False))
        due = min(
            (
                at + self._pace.wait(urgent=urgent, costs=self._costs)
                for at, urgent in since
                if at is not None
            ),
            default=math.inf,
        )
        return due - time.monotonic()

    async def _round(self) -> bool:
        """Send all that may be sent; returns whether anything was."""
        thinning, sent, batch = await self._look(), False, None
        spans = SPANS[thinning]
        if spans is not None and await self._outbox.thin(spans):
            log.info("telemetry was merged to save bytes", extra={"thinning": thinning})
        while thinning != "nothing":
            self._waits_since = self._urgent_since = None  # what comes from now on may be missed below
            batch = await self._next(thinning)
            if batch is None or not await self._send(batch):
                break
            sent = True
            thinning = await self._look()
        if sent:
            await self._budget.settle()
        if thinning != "none":
            self._waits_since = self._waits_since or time.monotonic()
        return sent

    async def _look(self) -> Thinning:
        report = await self._budget.look()
        thinning = "none" if report is None else report.thinning
        self._costs = thinning != "none" or await self._metered()
        return thinning

    async def _next(self, thinning: Thinning) -> TelemetryBatch | None:
        return await self._outbox.next_batch(
            BATCH_BYTES,
            maximum_records=1 if self._failures % 2 else MAX_BATCH_RECORDS,
            urgent_only=thinning == "urgent-only",
            settled_before=settled_before(SPANS[thinning], self._clock()),
        )

    async def _send(self, batch: TelemetryBatch) -> bool:
        """Whether the hub has answered."""
        self._in_flight = frozenset(record.sequence for record in batch.records)
        self._acknowledged.clear()
        try:
            await self._link.publish(Channel.TELEMETRY, encode_batch(batch))
            async with asyncio.timeout(ACK_SECONDS):
                await self._acknowledged.wait()
        except (TimeoutError, TransportError) as error:
            self._failed()
            log.info(
                "telemetry waits: no acknowledgement",
                extra={"records": len(batch.records), "failures": self._failures, "error": str(error)},
            )
            return False
        self._failures, self._retry_at = 0, 0.0
        return True

    def _failed(self) -> None:
        """Wait longer from time to time; something waits still."""
        now = time.monotonic()
        self._retry_at = now + self._backoff.delay(self._failures, self._randomness)
        self._failures += 1
        self._urgent_since = self._urgent_since or now
        self._waits_since = self._waits_since or now
