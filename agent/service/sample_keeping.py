"""Samples on the device: what runners hand over is kept, shown to a technician, and let go of."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from agent.config import SamplesConfig
from agent.protocol.control import SampleView
from agent.protocol.runner import SampleTaken
from agent.protocol.samples import KeptSample
from agent.store.samples import SampleEntry, SampleRing

log = logging.getLogger(__name__)

QUEUE_SAMPLES = 16
"""That may wait for the disk; beyond it the newest are dropped and counted."""
EXPIRE_SECONDS = 3600.0


class SampleKeeper:
    """The ring of kept inputs, one access at a time, never on the event loop."""

    def __init__(
        self,
        config: SamplesConfig,
        ring: SampleRing,
        *,
        clock: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self._config = config
        self._ring = ring
        self._clock = clock
        self._count = count
        self._waiting: asyncio.Queue[KeptSample] = asyncio.Queue(QUEUE_SAMPLES)
        self._access = asyncio.Lock()
        self.departing = asyncio.Lock()
        """Held from a sample's reading until it is in the outbox, and by who deletes both: nothing slips through between."""

    def take(self, message: SampleTaken) -> None:
        """From a runner, in a callback that can't wait. A runner that was not asked is not listened to."""
        sample = message.sample
        if self._config.policy(sample.model) is None or sample.tensor_bytes > self._config.sample_bytes:
            self._count("sample-not-asked-for")
            return
        try:
            self._waiting.put_nowait(sample)
        except asyncio.QueueFull:
            self._count("sample-queue-full")

    async def load(self) -> None:
        """Find what was kept before this start; a folder that can't be read holds nothing up."""
        async with self._access:
            try:
                await asyncio.to_thread(self._ring.load, self._clock())
            except OSError:
                self._count("sample-not-kept")
                log.exception("the samples can't be read")
        if self._ring.unreadable:
            log.warning("samples that could not be read are gone", extra={"count": self._ring.unreadable})

    async def run(self) -> None:
        """Keep what comes and delete what is too old, until cancelled."""
        while True:
            sample = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXPIRE_SECONDS):  # not wait_for: it may swallow a cancellation
                    sample = await self._waiting.get()
            async with self._access:
                try:
                    await asyncio.to_thread(self._keep, sample)
                except OSError as error:  # models serve on
                    self._count("sample-not-kept")
                    log.warning("sample not kept", extra={"why": str(error)})

    def _keep(self, sample: KeptSample | None) -> None:
        now = self._clock()
        self._ring.expire(now)
        if sample is not None:
            self._ring.add(sample, now)

    def entries(self) -> list[SampleEntry]:
        """All that are kept, the newest first."""
        return self._ring.entries()

    @property
    def size(self) -> int:
        return self._ring.size

    async def read(self, identity: str) -> KeptSample | None:
        """One sample whole; None where it is gone. Raises OSError."""
        async with self._access:
            return await asyncio.to_thread(self._ring.read, identity)

    async def after(self, identity: str | None) -> KeptSample | None:
        """The first sample after ``identity`` in the order of ids; None at the end. Raises OSError."""
        for each in sorted(entry.id for entry in self._ring.entries()):
            if identity is None or each > identity:
                sample = await self.read(each)
                if sample is not None:
                    return sample
        return None

    async def clear(self) -> int:
        """Delete all; returns how many. Raises OSError."""
        async with self._access:
            while not self._waiting.empty():
                self._waiting.get_nowait()
            return await asyncio.to_thread(self._ring.clear)


def view(entry: SampleEntry, left: float | None) -> SampleView:
    """As a technician sees it."""
    return SampleView(
        id=entry.id,
        model=entry.model,
        release=entry.release,
        time=entry.time,
        why=entry.why,
        confidence=entry.confidence,
        size_bytes=entry.size,
        left=left,
    )


def of_releases(entries: Sequence[SampleEntry], model: str, first: int, last: int) -> list[SampleEntry]:
    """Those of a model's releases ``first`` to ``last``, the most informative first."""
    chosen = [each for each in entries if each.model == model and first <= each.release <= last]
    return sorted(chosen, key=lambda each: (-each.score, -each.time, each.id))
