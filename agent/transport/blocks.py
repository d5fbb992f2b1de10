"""Files from the hub in blocks over MQTT: a few requests in flight, asked again when lost, resumed where they stopped.

At most ``window`` blocks are asked for and not yet written, and none is asked for while the writer is busy: a slow disk or
a rate limit slows the asking down, and ``window * block_bytes`` bounds the memory. The same bounds what a cut costs.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable

from agent.protocol.ids import Digest
from agent.protocol.state import Way
from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    Location,
    LocationRequest,
    MetadataSource,
    TransferResponse,
)
from agent.transport.asking import Asker, Counted, RequestLink, TransferSettings
from agent.transport.errors import NoAnswerError, NotFoundError, TransferError
from agent.transport.sources import ByteWriter

QUICK_SECONDS, SLOW_SECONDS = 2.5, 6.0
SHORTER = 16
"""How many of the shortest blocks make a longest one."""
METADATA = "metadata"
"""Purpose in the ledger."""
_RESTARTS = 3
"""How often a metadata file may change on the hub while it is being fetched."""


class _Pace:
    """How long a block to ask for: as long as the link brings within moments, so that a slow one is not swamped."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._shortest = max(1, longest // SHORTER)
        self.length = max(1, longest // 4)

    def took(self, seconds: float) -> None:
        """A block's answer came after so long."""
        if seconds < QUICK_SECONDS:
            self.length = min(self._longest, self.length * 2)
        elif seconds > SLOW_SECONDS:
            self.length = max(self._shortest, self.length // 2)


class BlockClient:
    """Asks the hub for metadata, artifacts, and where HTTP has them. A :class:`~agent.transport.sources.ByteSource`.

    Args:
        link: takes over its ``Block``, ``Location`` and ``TransferProblem`` messages.
        settings: patience.
        randomness: for the jitter.
        counted: told what it costs, for a purpose.
        purpose: what an artifact's bytes are counted for, by its digest.
    """

    way: Way = "mqtt"

    def __init__(
        self,
        link: RequestLink,
        settings: TransferSettings | None = None,
        *,
        randomness: random.Random | None = None,
        counted: Counted = lambda _purpose, _bytes_in, _bytes_out: None,
        purpose: Callable[[str], str] = lambda _digest: "artifacts",
    ) -> None:
        self._settings = settings or TransferSettings()
        self._asker = Asker(link, self._settings, randomness or random.SystemRandom(), counted)
        self._purpose = purpose
        self._pace = _Pace(self._settings.block_bytes)

    @property
    def waiting(self) -> int:
        """Requests whose answer is still of use."""
        return self._asker.waiting

    async def fetch_metadata(self, name: str, maximum_bytes: int) -> bytes | None:
        """The bytes of one metadata file; None when the hub has none of this name.

        Raises:
            NoAnswerError: no link or no answer in time.
            TransferError: larger than ``maximum_bytes``, or it changed under our hands again and again.
        """
        try:
            async with asyncio.timeout(self._settings.metadata_seconds):
                return await self._whole(MetadataSource(name=name), name, maximum_bytes)
        except NotFoundError:
            return None
        except TimeoutError as error:
            raise NoAnswerError(f"{name}: not here after {self._settings.metadata_seconds:g} s") from error

    async def locate(self, digest: Digest) -> Location:
        """Where the artifact is over HTTP.

        Raises:
            NoLocationError: the hub offers no HTTP.
            NotFoundError: it has no such artifact.
            NoAnswerError: no link or no answer.
        """

        def fits(answer: TransferResponse) -> str | None:
            return None if isinstance(answer, Location) else f"the hub sent a {type(answer).__name__} instead"

        what = f"the location of {digest}"
        answer = await self._asker.ask(
            lambda identity: LocationRequest(id=identity, sha256=digest),
            what,
            fits,
            purpose=self._purpose(digest),
        )
        if not isinstance(answer, Location):
            raise TransferError(f"{what}: the hub sent a {type(answer).__name__}")
        return answer

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        """Append the artifact's bytes; see :meth:`agent.transport.sources.ByteSource.download`.

        Raises:
            NotFoundError: the hub has no such artifact.
            NoAnswerError: no link or no answer for too long.
            TransferError: the hub's artifact has another size.
        """
        source = ArtifactSource(sha256=digest)
        in_flight: deque[asyncio.Task[bytes]] = deque()
        asked = writer.offset
        try:
            while writer.offset < size:
                while asked < size and len(in_flight) < self._settings.window:
                    length = min(self._pace.length, size - asked)
                    in_flight.append(asyncio.create_task(self._part(source, digest, asked, length, size)))
                    asked += length
                await writer.append(await in_flight.popleft())
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _part(self, source: ArtifactSource, what: str, offset: int, length: int, size: int) -> bytes:
        began = asyncio.get_running_loop().time()
        block = await self._block(source, what, offset, length)
        self._pace.took(asyncio.get_running_loop().time() - began)
        if block.total != size:
            raise TransferError(f"{what}: the hub's has {block.total} bytes, {size} were signed")
        return block.data

    async def _whole(self, source: MetadataSource, name: str, maximum_bytes: int) -> bytes:
        for _ in range(_RESTARTS):
            data = b""
            total: int | None = None
            while total is None or len(data) < total:
                block = await self._block(source, name, len(data), self._settings.block_bytes)
                if block.total > maximum_bytes:
                    raise TransferError(f"{name}: {block.total} bytes, at most {maximum_bytes} are allowed")
                if total not in (None, block.total):
                    break  # it was replaced meanwhile: from the start again
                total = block.total
                data += block.data
            else:
                return data
        raise TransferError(f"{name}: it changed {_RESTARTS} times while it was fetched")

    async def _block(
        self, source: MetadataSource | ArtifactSource, what: str, offset: int, length: int
    ) -> Block:
        def fits(answer: TransferResponse) -> str | None:
            if not isinstance(answer, Block):
                return f"the hub sent a {type(answer).__name__} instead"
            # Shorter than asked for only at the end of the file.
            if answer.offset == offset and len(answer.data) == max(0, min(length, answer.total - offset)):
                return None
            return f"the hub sent {len(answer.data)} bytes at {answer.offset} of {answer.total} instead"

        def make(identity: int) -> BlockRequest:
            return BlockRequest(id=identity, source=source, offset=offset, length=length)

        purpose = METADATA if isinstance(source, MetadataSource) else self._purpose(source.sha256)
        answer = await self._asker.ask(make, f"{what}: bytes from {offset} on", fits, purpose=purpose)
        if not isinstance(answer, Block):
            raise TransferError(f"{what}: the hub sent a {type(answer).__name__}")
        return answer
