"""A child's end of its control channel: of a runner, and of the front."""

import asyncio
import contextlib
import socket
from typing import Any, Generic, TypeVar, cast

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import ProtocolError
from agent.protocol.limits import MAX_FRAME_BYTES

_FLUSH_SECONDS = 2.0

Heard = TypeVar("Heard")
Said = TypeVar("Said")


class ControlChannel(asyncio.Protocol, Generic[Heard, Said]):
    """Frames in both directions over a connected stream socket."""

    def __init__(self, kind: Any) -> None:
        """``kind``: the union of tagged structs that may be heard."""
        self._kind = kind
        self._decoder = FrameDecoder()
        self._messages: asyncio.Queue[Heard | ProtocolError | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()

    @classmethod
    async def open(cls, fd: int, kind: Any) -> "ControlChannel[Heard, Said]":
        """Take over the descriptor of a connected socket."""
        end = socket.socket(fileno=fd)
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(kind), sock=end)
        return channel

    async def receive(self) -> Heard | None:
        """The next message; None when the supervisor has closed its end or is gone.

        Raises:
            ProtocolError: a frame is too large or no message of the contract.
        """
        message = await self._messages.get()
        if isinstance(message, ProtocolError):
            raise message
        return message

    def send(self, message: Said) -> None:
        """Queue one message; nothing where nobody reads any more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(message))

    def finish(self) -> None:
        """Nothing more will be said or heard: :meth:`receive` gives None from here on."""
        self._messages.put_nowait(None)

    async def close(self) -> None:
        """Close after everything queued has been read, or a moment later."""
        if self._transport is None:
            return
        self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self._lost.wait()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Queue every message that is complete."""
        try:
            for payload in self._decoder.feed(data):
                self._messages.put_nowait(decode_msgpack(payload, self._kind, limit=MAX_FRAME_BYTES))
        except ProtocolError as error:
            self._messages.put_nowait(error)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The supervisor closed its end, or died."""
        self._transport = None
        self._lost.set()
        self._messages.put_nowait(None)
