"""The last moment of draining: a request that has come is answered, however late; who is silent is cut."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from agent.web.messages import Answer
from agent.web.server import Server

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Server, socket.socket]]:
    """A server and a client that has been answered once and is idle."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    server = Server(lambda _: Answer(HTTPStatus.OK, [b"yes"]), maximum_body_bytes=1_000)
    server.listen(listener.detach())
    client = socket.create_connection(address)
    client.setblocking(False)
    with client:
        await send(client, REQUEST)
        assert b"Connection: close" not in await receive(client)
        yield server, client
    server.abort()


async def send(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def receive(client: socket.socket) -> bytes:
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(client, 4096)


async def test_a_request_the_server_has_not_read_when_it_cuts_is_answered_with_close(
    served: tuple[Server, socket.socket],
) -> None:
    server, client = served
    server.draining = server.closing = True
    client.send(REQUEST)  # the loop does not run between this and the cut: nobody has read it
    (connection,) = server._connections
    assert not connection.close_if_idle()
    answer = await receive(client)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in answer
    assert await receive(client) == b""


async def test_who_has_sent_nothing_is_cut_and_counted(served: tuple[Server, socket.socket]) -> None:
    server, client = served
    assert await server.drain(0.05) == 1
    assert await receive(client) == b""


async def test_who_never_stops_pipelining_is_told_to_close_at_the_deadline(
    served: tuple[Server, socket.socket],
) -> None:
    server, client = served

    async def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                await send(client, REQUEST * 50)

    async def read() -> bytes:
        said = b""
        with contextlib.suppress(OSError):
            while data := await receive(client):
                said = (said + data)[-4096:]
        return said

    flooding, reading = asyncio.create_task(flood()), asyncio.create_task(read())
    assert await server.drain(0.3) == 0
    assert b"Connection: close" in await reading
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
