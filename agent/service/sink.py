"""Where a source's bytes end: the partial file, at the pace that the disk and the rate limit allow."""

import asyncio
import time
from collections.abc import Callable

from agent.service.threads import to_its_end
from agent.service.transfers import Flow
from agent.store.partial import PartialArtifact
from agent.transport.errors import NoAnswerError, StuckError
from agent.transport.rate import MinimumRate, TokenBucket


class RateLimit:
    """One limit for all transfers of the device, bytes a second."""

    def __init__(self, rate: float) -> None:
        self._bucket = TokenBucket(rate, time.monotonic())

    async def take(self, count: int) -> None:
        """``count`` bytes have come: wait until more may."""
        await asyncio.sleep(self._bucket.take(count, time.monotonic()))


class Sink:
    """A :class:`agent.transport.sources.ByteWriter` over a partial artifact.

    Back-pressure: :meth:`append` returns when the bytes are written (by a thread, so that a slow disk stops nobody else) and
    the rate limit allows more. Its own time is not the source's: a slow disk makes no source stuck.
    """

    def __init__(
        self,
        writer: PartialArtifact,
        *,
        minimum: MinimumRate,
        limit: RateLimit | None,
        flow: Flow,
        progress: Callable[[int], None],
    ) -> None:
        self._writer = writer
        self._minimum = minimum
        self._limit = limit
        self._flow = flow
        self._progress = progress
        self._own_seconds = 0.0
        self._since: float | None = None
        self.arrived = 0
        """Bytes of this source."""
        progress(writer.offset)

    @property
    def offset(self) -> int:
        return self._writer.offset

    async def append(self, data: bytes) -> None:
        """Write the next bytes; raises ArtifactError where they are too many, OSError where the disk fails."""
        self._since = began = time.monotonic()
        try:
            await to_its_end(lambda: self._writer.append(data))
            self.arrived += len(data)
            self._flow.arrived += len(data)
            self._minimum.arrived(len(data))
            self._progress(self._writer.offset)
            if self._limit is not None:
                await self._limit.take(len(data))
        finally:
            self._since = None
            self._own_seconds += time.monotonic() - began

    def look(self) -> None:
        """Raise where the source is too slow.

        Raises:
            StuckError: bytes come, at less than the minimum rate.
            NoAnswerError: nothing came at all.
        """
        now = time.monotonic()
        own = self._own_seconds + (0.0 if self._since is None else now - self._since)
        few = self._minimum.judge(now - own)
        if few is None:
            return
        rate, window = self._minimum.rate, self._minimum.window
        if few:
            raise StuckError(f"{few} bytes in {window:g} s, at least {rate:g} bytes/s are asked for")
        raise NoAnswerError(f"nothing came in {window:g} s")
