"""The life of the front, told by its control channel."""

import asyncio
import contextlib
import socket

from agent.front.router import Router
from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import ProtocolError
from agent.protocol.front import FromFront, FrontFailed, FrontModels, FrontReady, FrontStart, ToFront
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.web.server import Server
from agent.web.tls import TlsError, server_context

SWEEP_SECONDS = 1.0
_READ_BYTES = 64 * 1024


async def run(control_fd: int) -> int:
    """Serve until the supervisor closes its end; gives the exit status."""
    end = socket.socket(fileno=control_fd)
    reader, writer = await asyncio.open_connection(sock=end)
    try:
        return await _live(_Channel(reader, writer))
    except ProtocolError as error:
        writer.write(frame(FrontFailed(text=f"control channel: {error}")))
        return 2
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _live(channel: "_Channel") -> int:
    start = await channel.receive()
    if start is None:
        return 0
    if not isinstance(start, FrontStart):
        channel.send(
            FrontFailed(text=f"control channel: expected the start first, got {type(start).__name__}")
        )
        return 2
    try:
        tls = None if start.tls is None else server_context(start.tls)
    except TlsError as error:
        channel.send(FrontFailed(text=str(error)))
        return 1
    router = Router()
    router.serve(start.models)
    server = Server(router.answer, maximum_body_bytes=start.maximum_body_bytes, hosts=start.hosts)
    server.listen(start.listening_fd, tls=tls)
    sweeping = asyncio.create_task(_sweep(server))
    channel.send(FrontReady())
    try:
        while (message := await channel.receive()) is not None:
            if isinstance(message, FrontModels):
                router.serve(message.models)
        return 0
    finally:
        sweeping.cancel()
        server.abort()
        router.serve({})


async def _sweep(server: Server) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        server.sweep()


class _Channel:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = FrameDecoder()
        self._messages: list[ToFront] = []

    async def receive(self) -> ToFront | None:
        """The next message; None when the supervisor has closed its end or is gone."""
        while not self._messages:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                return None
            for payload in self._decoder.feed(data):
                message: ToFront = decode_msgpack(payload, ToFront, limit=MAX_FRAME_BYTES)
                self._messages.append(message)
        return self._messages.pop(0)

    def send(self, message: FromFront) -> None:
        self._writer.write(frame(message))
