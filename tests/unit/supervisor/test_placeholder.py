import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from agent.supervisor.placeholder import Placeholder


@pytest.fixture
def listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    return listener


@pytest.fixture
async def placeholder(listener: socket.socket) -> AsyncIterator[Placeholder]:
    placeholder = Placeholder([listener])
    yield placeholder
    await placeholder.close()
    assert listener.fileno() != -1  # it never closes what it does not own
    listener.close()


@pytest.fixture
async def client(listener: socket.socket) -> AsyncIterator[httpx.AsyncClient]:
    host, port = listener.getsockname()
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=5, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v2/models/digits/ready", "/v2", "/"])
async def test_every_request_gets_503_and_the_reason(
    placeholder: Placeholder, client: httpx.AsyncClient, path: str
) -> None:
    placeholder.resume("no release is active yet")
    answer = await client.get(path)
    assert answer.status_code == 503
    assert answer.json() == {"error": "no release is active yet"}
    assert answer.headers["connection"] == "close"


async def test_the_server_is_live(placeholder: Placeholder, client: httpx.AsyncClient) -> None:
    placeholder.resume("no release is active yet")
    assert (await client.get("/v2/health/live")).status_code == 200


async def test_a_head_has_no_body(placeholder: Placeholder, client: httpx.AsyncClient) -> None:
    placeholder.resume("no release is active yet")
    answer = await client.head("/v2")
    assert (answer.status_code, answer.content) == (503, b"")


async def test_a_large_body_does_not_cost_the_client_its_answer(
    placeholder: Placeholder, client: httpx.AsyncClient
) -> None:
    placeholder.resume("no release is active yet")
    answer = await client.post("/v2/models/digits/infer", content=bytes(8 * 1024 * 1024))
    assert answer.status_code == 503


async def test_a_changed_reason_is_told(placeholder: Placeholder, client: httpx.AsyncClient) -> None:
    placeholder.resume("first")
    placeholder.resume("second")
    assert (await client.get("/v2")).json() == {"error": "second"}


@pytest.mark.parametrize(
    ("sent", "status"), [(b"hello\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, b"431")]
)
async def test_what_is_not_http_is_refused(
    placeholder: Placeholder, listener: socket.socket, sent: bytes, status: bytes
) -> None:
    placeholder.resume("no release is active yet")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(sent)
    assert (await reader.read()).split(b" ")[1] == status
    writer.close()
    await writer.wait_closed()


async def test_a_connection_that_comes_while_paused_waits_for_whoever_accepts_next(
    placeholder: Placeholder, listener: socket.socket, client: httpx.AsyncClient
) -> None:
    placeholder.resume("first")
    await client.get("/v2")
    placeholder.pause()
    waiting = asyncio.create_task(client.get("/v2"))
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_recv(connection, 4096)
    await asyncio.get_running_loop().sock_sendall(connection, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert (await waiting).status_code == 200
    connection.close()
    placeholder.resume("again")
    assert (await client.get("/v2")).json() == {"error": "again"}


async def test_more_connections_than_it_takes_at_once_are_all_answered(
    placeholder: Placeholder, listener: socket.socket
) -> None:
    placeholder.resume("busy")
    pairs = [await asyncio.open_connection(*listener.getsockname()) for _ in range(100)]
    for _, writer in pairs:
        writer.write(b"GET /v2 HTTP/1.1\r\n\r\n")
    for reader, writer in pairs:
        assert b" 503 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_closing_ends_open_connections(placeholder: Placeholder, listener: socket.socket) -> None:
    placeholder.resume("going")
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"GET /v2")
    await writer.drain()
    async with asyncio.timeout(5):
        while not placeholder._connections:  # noqa: ASYNC110 - its accepting is not an event
            await asyncio.sleep(0)
        await placeholder.close()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
    assert not placeholder._connections
