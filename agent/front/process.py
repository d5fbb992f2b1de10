"""The life of the front, told by its control channel."""

import asyncio
from typing import TypeAlias

from agent.control_channel import ControlChannel
from agent.front.router import Router
from agent.protocol.errors import ProtocolError
from agent.protocol.front import FromFront, FrontFailed, FrontModels, FrontReady, FrontStart, ToFront
from agent.web.server import Server
from agent.web.tls import TlsError, server_context

SWEEP_SECONDS = 1.0


Channel: TypeAlias = ControlChannel[ToFront, FromFront]


async def run(control_fd: int) -> int:
    """Serve until the supervisor closes its end; gives the exit status."""
    channel: Channel = await ControlChannel.open(control_fd, ToFront)
    try:
        return await _live(channel)
    except ProtocolError as error:
        channel.send(FrontFailed(text=f"control channel: {error}"))
        return 2
    finally:
        await channel.close()


async def _live(channel: Channel) -> int:
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
