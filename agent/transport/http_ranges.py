"""Artifacts over HTTP: a range from where the file ends, from the address that the hub names, by a short-lived child."""

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import Digest
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.protocol.state import Way
from agent.protocol.transfer import Location
from agent.transport.errors import BusyError, NoAnswerError, NotFoundError, TransferError
from agent.transport.http_wire import PIECE_BYTES, Ended, Failed, FromChild, Order, Piece
from agent.transport.sources import ByteWriter

REMEMBERED_LOCATIONS = 64
COMMAND = (sys.executable, "-m", "agent.transport.http_child")

Locate = Callable[[Digest], Awaitable[Location]]


class HttpSettings(Struct, frozen=True, kw_only=True):
    """How patient it is; seconds."""

    connect_seconds: float = 20.0
    read_seconds: float = 30.0
    """Longest silence of the server."""


class _ExpiredError(Exception):
    """The server does not take this location (any more)."""


class HttpRanges:
    """A :class:`~agent.transport.sources.ByteSource`.

    Memory is bounded by two pipes' worth: what is not taken stays in the child's pipe, then in the network.

    Args:
        locate: asks the hub where an artifact is.
        authority: PEM file of the hub's authority, trusted beside the system's own.
        settings: patience.
        counted: told the bytes received and sent for a digest.
        command: starts the child.
        clock: by which the server's certificate is judged, Unix seconds.
    """

    way: Way = "http"

    def __init__(
        self,
        locate: Locate,
        authority: Path | None,
        settings: HttpSettings | None = None,
        *,
        counted: Callable[[Digest, int, int], None] = lambda _digest, _received, _sent: None,
        command: Sequence[str] = COMMAND,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._locate = locate
        self._authority = authority
        self._settings = settings or HttpSettings()
        self._counted = counted
        self._command = tuple(command)
        self._clock = clock
        self._locations: dict[Digest, Location] = {}
        self.version: str | None = None
        """Of the newest answer: ``HTTP/2`` or ``HTTP/1.1``."""

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        """Append the artifact's bytes; see :meth:`agent.transport.sources.ByteSource.download`."""
        renewed = False
        while writer.offset < size:
            before = writer.offset
            location, fresh = await self._location(digest)
            try:
                await self._fetch(location, digest, size, writer)
            except _ExpiredError as error:
                self._locations.pop(digest, None)
                if fresh or renewed:
                    raise TransferError(f"{digest}: the location is not taken: {error}") from error
                renewed = True
                continue
            if writer.offset == before:
                raise TransferError(f"{digest}: the answer had no bytes")

    async def prepare(self, digest: Digest) -> None:
        """Learn where the artifact is, if the hub says so."""
        with contextlib.suppress(TransferError):
            await self._location(digest)

    async def _location(self, digest: Digest) -> tuple[Location, bool]:
        """Where it is, and whether that was asked just now; a known one is of use also while the broker is away."""
        known = self._locations.get(digest)
        if known is not None:
            return known, False
        location = self._locations[digest] = await self._locate(digest)
        while len(self._locations) > REMEMBERED_LOCATIONS:
            del self._locations[next(iter(self._locations))]
        return location, True

    async def _fetch(self, location: Location, digest: Digest, size: int, writer: ByteWriter) -> None:
        order = Order(
            url=location.url,
            etag=location.etag,
            offset=writer.offset,
            size=size,
            authority=None if self._authority is None else str(self._authority),
            connect_seconds=self._settings.connect_seconds,
            read_seconds=self._settings.read_seconds,
            now=self._clock(),
        )
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=PIECE_BYTES,
            )
        except OSError as error:
            raise TransferError(
                f"{digest}: the process that speaks HTTP can't be started: {error}"
            ) from error
        try:
            await self._converse(child, order, digest, size, writer)
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
            if child.stdin is not None:
                child.stdin.close()

    async def _converse(
        self,
        child: asyncio.subprocess.Process,
        order: Order,
        digest: Digest,
        size: int,
        writer: ByteWriter,
    ) -> None:
        if child.stdin is None or child.stdout is None:
            raise TransferError(f"{digest}: the process that speaks HTTP has no pipes")
        with contextlib.suppress(OSError):  # it died at once: its silence says so
            child.stdin.write(frame(order))
            await child.stdin.drain()
        messages = _Messages(child.stdout)
        while True:
            try:
                message = await messages.next()
            except ProtocolError as error:
                raise TransferError(
                    f"{digest}: the process that speaks HTTP broke its protocol: {error}"
                ) from error
            match message:
                case Piece(data):
                    if writer.offset + len(data) > size:
                        raise TransferError(f"{digest}: more than {size} bytes came")
                    await writer.append(data)
                case Ended():
                    self.version = message.version
                    self._counted(digest, message.received, message.sent)
                    return
                case Failed():
                    self._counted(digest, message.received, message.sent)
                    raise _raised(digest, message)
                case None:
                    raise TransferError(f"{digest}: the process that speaks HTTP died: {await child.wait()}")


class _Messages:
    """The child's frames."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._decoder = FrameDecoder(2 * PIECE_BYTES)
        self._frames: deque[bytes] = deque()

    async def next(self) -> FromChild | None:
        """None at the end of the stream; raises ProtocolError."""
        while not self._frames:
            data = await self._stream.read(PIECE_BYTES)
            if not data:
                return None
            self._frames.extend(self._decoder.feed(data))
        message: FromChild = decode_msgpack(self._frames.popleft(), FromChild, limit=MAX_FRAME_BYTES)
        return message


def _raised(digest: Digest, failed: Failed) -> Exception:
    text = f"{digest}: {failed.text}"
    match failed.kind:
        case "no-answer":
            return NoAnswerError(text)
        case "absent":
            return NotFoundError(text)
        case "expired":
            return _ExpiredError(failed.text)
        case "busy":
            return BusyError(text, failed.seconds)
        case _:
            return TransferError(text)
