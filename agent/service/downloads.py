"""Artifacts: from the store where they are here, else by whichever way gives them, resuming where an earlier one stopped."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from weakref import WeakValueDictionary

from msgspec import Struct

from agent.core.fetching import (
    Failure,
    Fetching,
    GiveUp,
    Pause,
    Use,
    arrived,
    begin,
    failed,
    joined,
    next_step,
    paused,
    wrong_bytes,
)
from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.state import Reason, Way
from agent.service.sink import RateLimit, Sink
from agent.service.threads import to_its_end
from agent.service.transfers import Transfers
from agent.store.artifacts import ArtifactStore
from agent.store.errors import ArtifactError, HashMismatchError, StoreError
from agent.store.partial import PartialArtifact
from agent.transport.backoff import Backoff
from agent.transport.errors import (
    BusyError,
    NoAnswerError,
    NoLocationError,
    NotFoundError,
    StuckError,
    TransferError,
)
from agent.transport.rate import MinimumRate
from agent.transport.sources import ByteSource

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often a transfer is looked at."""


class TransferPolicy(Struct, frozen=True, kw_only=True):
    """The owner's ``[transfer]`` settings; see :class:`agent.config.TransferConfig`."""

    order: tuple[Way, ...] = ("http", "mqtt")
    small_bytes: int = 256 * 1024
    minimum_bytes_per_second: float = 128.0
    stuck_seconds: float = 60.0
    tries: int = 6
    backoff: Backoff = Backoff(minimum=2.0, maximum=300.0)


class ArtifactDownloader:
    """Brings artifacts onto the device.

    Args:
        sources: what is there to ask, by its way.
        artifacts: where they go.
        policy: in which order, how patiently.
        transfers: told what goes on.
        prepare: has a way that is not the first one made ready while the first is in use.
        limit: of all transfers together; None: as fast as they come.
        randomness: for the jitter.
    """

    def __init__(
        self,
        sources: Mapping[Way, ByteSource],
        artifacts: ArtifactStore,
        policy: TransferPolicy | None = None,
        *,
        transfers: Transfers | None = None,
        prepare: Callable[[Digest], Awaitable[None]] | None = None,
        limit: RateLimit | None = None,
        randomness: random.Random | None = None,
    ) -> None:
        self.sources = dict(sources)
        self.artifacts = artifacts
        self.policy = policy or TransferPolicy()
        self.transfers = transfers or Transfers()
        self.prepare = prepare
        self.limit = limit
        self._randomness = randomness or random.SystemRandom()
        self._busy: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()
        self.woken = asyncio.Event()
        """The next :meth:`wake`: whoever takes it before asking a way learns of one that comes meanwhile."""

    def offer(self, source: ByteSource) -> None:
        """One more source, asked before all others (an opened bundle); in place of an earlier one of its way."""
        self.sources[source.way] = source
        self.wake()

    def withdraw(self, way: Way) -> None:
        """The source that was offered is gone."""
        self.sources.pop(way, None)

    def wake(self) -> None:
        """There is reason to ask again at once: the link is up."""
        self.woken.set()
        self.woken = asyncio.Event()

    def alone(self, digest: Digest) -> asyncio.Lock:
        """Held by whoever writes this artifact; weakly kept, so that it is one lock as long as anybody holds or awaits it."""
        return self._busy.setdefault(digest, asyncio.Lock())

    async def obtain(self, digest: Digest, size: int, progress: Callable[[int], None]) -> Path:
        """The path of the complete, verified artifact; ``progress`` is told the bytes that are here.

        A network that is away is waited for; what is wrong with the bytes or with who sends them is not.

        Raises:
            ReleaseError: no way gives it, or what comes can't be it (``fetch-failed``); or there is no room (``no-room``); the text says what, where
                and how often.
        """
        try:
            async with self.alone(digest):  # two models may name the same file
                if await asyncio.to_thread(self.artifacts.verify, digest):
                    progress(size)
                    return self.artifacts.path(digest)
                return await _Transfer(self, digest, size, progress).run()
        except ArtifactError as error:  # however much room there is
            raise ReleaseError(Reason(code="fetch-failed", text=str(error))) from error
        except (StoreError, OSError) as error:
            text = f"the release can't be stored: {error}"
            raise ReleaseError(Reason(code="no-room", text=text)) from error

    def order(self, size: int) -> tuple[Way, ...]:
        """In which order sources are asked for an artifact of ``size`` bytes."""
        configured = [way for way in self.policy.order if way in self.sources]
        if size <= self.policy.small_bytes and "mqtt" in configured:  # a process and a handshake cost more
            configured.sort(key=lambda way: way != "mqtt")
        offered = [way for way in self.sources if way not in {"http", "mqtt"}]
        return (*offered, *configured)

    async def rest(self, step: Pause, woken: asyncio.Event) -> None:
        """Until the pause is over, or ``woken`` says that there is a way to try; one that asked for time still gets it."""
        delay = self.policy.backoff.delay(step.attempt, self._randomness)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(step.at_least + delay):
                await woken.wait()


class _Transfer:
    """One artifact on its way."""

    def __init__(
        self, owner: ArtifactDownloader, digest: Digest, size: int, progress: Callable[[int], None]
    ) -> None:
        self._owner = owner
        self._digest = digest
        self._size = size
        self._progress = progress
        self._flow = owner.transfers.flow(digest)
        self._state: Fetching = begin(owner.order(size), owner.policy.tries)
        self._brought_by: set[Way | None] = {None}
        """Who the bytes in the partial file are from; None: whoever it was before this transfer."""

    async def run(self) -> Path:
        preparing = self._prepare()
        woken = self._owner.woken
        try:
            while True:
                step = next_step(self._state, time.monotonic())
                match step:
                    case Use(way):
                        path = await self._use(way)
                        if path is not None:
                            return path
                    case Pause():
                        await self._pause(step, woken)
                        woken = self._owner.woken
                    case GiveUp(text):
                        raise ReleaseError(
                            Reason(code="fetch-failed", text=f"file {self._digest[:12]}… not fetched: {text}")
                        )
        finally:
            self._flow.way = self._flow.waiting = None
            if preparing is not None:
                preparing.cancel()
                await asyncio.gather(preparing, return_exceptions=True)

    def _prepare(self) -> asyncio.Task[None] | None:
        """Ask for the location while there is somebody to ask: when the broker is away, HTTP may still be there."""
        first = next(iter(self._state.ways), None)
        owner = self._owner
        if owner.prepare is None or first == "http" or "http" not in self._state.ways:
            return None
        return (
            None
            if self._size <= owner.policy.small_bytes
            else asyncio.ensure_future(owner.prepare(self._digest))
        )

    async def _pause(self, step: Pause, woken: asyncio.Event) -> None:
        problems = "; ".join(
            f"{way}: {state.problem}" for way, state in self._state.ways.items() if state.problem
        )
        unreachable = all(state.failures == 0 for state in self._state.ways.values())
        cause = (
            "no network and no bundle brings its bytes"
            if unreachable
            else "its bytes could not be had, and are asked for again"
        )
        self._flow.waiting = Reason(code="bytes-not-coming", text=f"{cause}: {problems}")
        await self._owner.rest(step, woken)
        self._flow.waiting = None
        self._state = joined(paused(self._state), self._owner.order(self._size))

    async def _use(self, way: Way) -> Path | None:
        """Let one source bring what it can; the path when the artifact is whole."""
        source = self._owner.sources.get(way)
        if source is None:  # it was withdrawn meanwhile
            self._failed(way, Failure.ABSENT, "it is gone")
            return None
        writer = await self._open()
        if writer.offset == 0:
            self._brought_by.clear()
        elif self._state.alone and self._brought_by != {way}:
            writer.discard()
            self._brought_by.clear()
            writer = await self._open()
        policy = self._owner.policy
        sink = Sink(
            writer,
            minimum=MinimumRate(policy.minimum_bytes_per_second, policy.stuck_seconds, time.monotonic()),
            limit=None if way == "bundle" else self._owner.limit,  # it is the network's
            flow=self._flow,
            progress=self._progress,
        )
        self._flow.way = way
        try:
            await self._watch(source, sink)
        except TransferError as error:
            self._judge(way, error)
            return None
        finally:
            self._flow.way = None
            writer.close()
            if sink.arrived:
                self._brought_by.add(way)
                self._state = arrived(self._state, way, sink.arrived)
        return await self._finish(way)

    async def _open(self) -> PartialArtifact:
        partial = self._owner.artifacts.partial
        return await to_its_end(lambda: partial(self._digest, self._size), PartialArtifact.close)

    async def _watch(self, source: ByteSource, sink: Sink) -> None:
        """Wait for the source's end, unless it is stuck."""
        task = asyncio.create_task(source.download(self._digest, self._size, sink))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=LOOK_SECONDS)
                if not task.done():
                    sink.look()
            task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _finish(self, way: Way) -> Path | None:
        sole = self._brought_by == {way}
        writer = await self._open()
        try:
            return await to_its_end(writer.finish)
        except HashMismatchError as error:
            log.warning("wrong bytes", extra={"artifact": self._digest, "way": way, "why": str(error)})
            self._state = wrong_bytes(self._state, way, str(error), sole=sole)
        except ArtifactError as error:
            self._failed(way, Failure.REFUSED, str(error))
        finally:
            writer.close()
        return None

    def _judge(self, way: Way, error: TransferError) -> None:
        match error:
            case NoAnswerError():
                failure = Failure.NO_ANSWER
            case NotFoundError():
                failure = Failure.ABSENT
            case NoLocationError():
                failure = Failure.NO_LOCATION
            case BusyError():
                failure = Failure.BUSY
            case StuckError():
                failure = Failure.STUCK
            case _:
                failure = Failure.REFUSED
        self._failed(way, failure, str(error), getattr(error, "seconds", None))

    def _failed(self, way: Way, failure: Failure, text: str, rest_seconds: float | None = None) -> None:
        log.info(
            "a way failed",
            extra={"artifact": self._digest, "way": way, "failure": failure.value, "why": text},
        )
        self._state = failed(self._state, way, failure, text, now=time.monotonic(), rest_seconds=rest_seconds)
