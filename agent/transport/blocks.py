"""Files from the hub in blocks over MQTT: a few requests in flight, asked again when lost, resumed where they stopped."""

import asyncio
import logging
import random
import secrets
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from agent.protocol.codec import encode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.limits import BLOCK_BYTES
from agent.protocol.topics import Channel
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, MetadataSource, TransferProblem
from agent.transport.backoff import Backoff
from agent.transport.errors import (
    LinkDownError,
    NoAnswerError,
    NotFoundError,
    PublishRefusedError,
    TransferError,
)
from agent.transport.inbox import T

log = logging.getLogger(__name__)

_RESTARTS = 3
"""How often a metadata file may change on the hub while it is being fetched."""


class RequestLink(Protocol):
    """What a transfer needs of the link (:class:`agent.transport.mqtt.MqttLink` is one)."""

    connected: asyncio.Event

    @property
    def errors(self) -> Counter[str]: ...
    def on(self, kind: type[T], handler: Callable[[T], None]) -> None: ...
    async def publish(self, channel: Channel, payload: bytes) -> None: ...


class BlockWriter(Protocol):
    """Where bytes go, in order (:class:`agent.store.artifacts.PartialArtifact` is one)."""

    @property
    def offset(self) -> int: ...
    def append(self, data: bytes) -> None: ...


class TransferSettings(Struct, frozen=True, kw_only=True):
    """How patient a transfer is; times in seconds."""

    block_bytes: int = BLOCK_BYTES
    window: int = 4
    """Requests in flight."""
    tries: int = 8
    """Requests for one block before the transfer gives up; waiting for the link is not a try."""
    answer: Backoff = Backoff(minimum=4.0, maximum=30.0)
    """How long to wait for an answer, growing from try to try; also the pause after ``busy``."""
    offline_seconds: float = 600.0
    """How long one block waits for the link to come back."""
    metadata_seconds: float = 30.0
    """Deadline of a whole metadata file, the wait for the link included."""


class BlockClient:
    """Fetches metadata and artifacts through a link.

    Args:
        link: takes over its ``Block`` and ``TransferProblem`` messages.
        settings: patience.
        randomness: for the jitter.
    """

    def __init__(
        self,
        link: RequestLink,
        settings: TransferSettings | None = None,
        *,
        randomness: random.Random | None = None,
    ) -> None:
        self._link = link
        self._settings = settings or TransferSettings()
        self._randomness = randomness or random.SystemRandom()
        self._next_id = secrets.randbits(48)
        self._waiting: dict[int, asyncio.Future[Block | TransferProblem]] = {}
        link.on(Block, self._take)
        link.on(TransferProblem, self._take)

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

    async def download(
        self,
        digest: Digest | str,
        size: int,
        writer: BlockWriter,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Append the artifact's bytes to ``writer`` from its offset on, until it has ``size``.

        What was written stays written whatever happens, so calling again resumes. The caller checks the hash.

        Args:
            digest: of the artifact.
            size: bytes it must have.
            writer: gets the bytes in order.
            progress: told the bytes that are here, after each block.

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
                    length = min(self._settings.block_bytes, size - asked)
                    in_flight.append(asyncio.create_task(self._part(source, digest, asked, length, size)))
                    asked += length
                writer.append(await in_flight.popleft())
                if progress is not None:
                    progress(writer.offset)
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)

    async def _part(self, source: ArtifactSource, what: str, offset: int, length: int, size: int) -> bytes:
        block = await self._block(source, what, offset, length)
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
        """Ask for one range until it comes.

        An answer to an earlier request for the same range is as good as one to the newest.
        """
        answer: asyncio.Future[Block | TransferProblem] = asyncio.get_running_loop().create_future()
        identities: list[int] = []
        problem = "no answer"
        try:
            for attempt in range(self._settings.tries):
                await self._send(source, what, offset, length, answer, identities)
                patience = self._settings.answer.delay(attempt, self._randomness)
                done, _ = await asyncio.wait({answer}, timeout=patience)
                if not done:
                    self._link.errors["request-timeout"] += 1
                    continue
                response = answer.result()
                if isinstance(response, Block) and _fits(response, offset, length):
                    return response
                problem = await self._judge(response, what, patience)
                self._forget(identities)
                answer = asyncio.get_running_loop().create_future()
        finally:
            self._forget(identities)
            answer.cancel()
        raise NoAnswerError(f"{what}: bytes from {offset} on, asked {self._settings.tries} times: {problem}")

    async def _send(
        self,
        source: MetadataSource | ArtifactSource,
        what: str,
        offset: int,
        length: int,
        answer: asyncio.Future[Block | TransferProblem],
        identities: list[int],
    ) -> None:
        """Publish one request; while the link is down, wait for it (asking then costs no try)."""
        while True:
            try:
                async with asyncio.timeout(self._settings.offline_seconds):
                    await self._link.connected.wait()
            except TimeoutError as error:
                raise NoAnswerError(f"{what}: no link for {self._settings.offline_seconds:g} s") from error
            identity = self._next_id
            self._next_id += 1
            self._waiting[identity] = answer
            identities.append(identity)
            request = BlockRequest(id=identity, source=source, offset=offset, length=length)
            try:
                await self._link.publish(Channel.REQUEST, encode_msgpack(request))
            except LinkDownError:
                await asyncio.sleep(0)  # let the link notice that it is down
                continue
            except PublishRefusedError as error:
                raise TransferError(f"{what}: can't be asked for: {error}") from error
            return

    async def _judge(self, response: Block | TransferProblem, what: str, patience: float) -> str:
        """Raise where asking again can't help; else wait where that helps, and say what was wrong."""
        if isinstance(response, Block):
            self._link.errors["wrong-block"] += 1
            return f"the hub sent {len(response.data)} bytes at {response.offset} of {response.total} instead"
        if response.code == "not-found":
            raise NotFoundError(f"{what}: {response.text}")
        if response.code == "busy":
            await asyncio.sleep(patience)
            return f"the hub is busy: {response.text}"
        raise TransferError(f"{what}: {response.code}: {response.text}")

    def _forget(self, identities: list[int]) -> None:
        for identity in identities:
            self._waiting.pop(identity, None)
        identities.clear()

    def _take(self, response: Block | TransferProblem) -> None:
        answer = self._waiting.pop(response.id, None)
        if answer is None or answer.done():
            self._link.errors["stale-response"] += 1
            return
        answer.set_result(response)


def _fits(block: Block, offset: int, length: int) -> bool:
    """Whether a block is the range that was asked for; a shorter one only at the end of the file."""
    return block.offset == offset and len(block.data) == max(0, min(length, block.total - offset))
