"""Clients of a TLS address that never get as far as a request, on both event loops."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from agent.web import server as module
from agent.web.messages import Answer, Request, json_answer
from agent.web.server import Server
from agent.web.tls import server_context
from tests.support.certificates import Authority

Run = Callable[[Coroutine[Any, Any, None]], None]
each_loop = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def hello(_: Request) -> Answer:
    return json_answer("hello")


class Listening:
    """A server over TLS on a free port."""

    def __init__(self, authority: Authority) -> None:
        self.refused = 0
        self.trusting = ssl.create_default_context(cafile=str(authority.certificate))
        self.server = Server(hello, maximum_body_bytes=1000, refused=self._count)
        self._tls = server_context(authority.issue("device"))

    def _count(self) -> None:
        self.refused += 1

    def start(self) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        self.server.listen(listener.detach(), tls=self._tls)
        return port


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - accepting has no event
            await asyncio.sleep(0.01)


@each_loop
def test_a_client_that_never_finishes_its_handshake_leaves_its_place(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    listening = Listening(Authority(tmp_path))

    async def scenario() -> None:
        port = listening.start()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: len(listening.server._opening) == 2)
        assert not listening.server._watched, "no place is left, so who comes now waits for theirs"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=listening.trusting)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        for theirs, mine in silent:
            assert await theirs.read() == b""
            mine.close()
        writer.close()
        await writer.wait_closed()
        assert await listening.server.drain(5) == 0

    run(scenario())
    assert listening.refused == 2


@each_loop
def test_what_is_no_tls_is_closed_and_counted(run: Run, tmp_path: Path) -> None:
    listening = Listening(Authority(tmp_path))

    async def scenario() -> None:
        port = listening.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in await reader.read()
        writer.close()
        assert await listening.server.drain(5) == 0

    run(scenario())
    assert listening.refused == 1


@each_loop
def test_draining_does_not_wait_for_a_handshake_for_ever(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.3)
    listening = Listening(Authority(tmp_path))

    async def scenario() -> None:
        port = listening.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: bool(listening.server._opening))
        assert await listening.server.drain(3) == 0
        assert await reader.read() == b""
        writer.close()

    run(scenario())


@each_loop
def test_who_comes_over_tcp_leaves_room_for_the_unix_socket(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TCP_CONNECTIONS", 2)
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 3)
    listening = Listening(Authority(tmp_path))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "model.sock"))
    unix.listen()

    async def scenario() -> None:
        port = listening.start()
        listening.server.listen(unix.detach())
        over_tcp = [
            await asyncio.open_connection("127.0.0.1", port, ssl=listening.trusting) for _ in range(2)
        ]
        await until(lambda: len(listening.server._connections) == 2)
        _, late = await asyncio.open_connection("127.0.0.1", port)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "model.sock")
        writer.write(GET)
        async with asyncio.timeout(5):  # sooner than the late one's handshake is given up
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert len(listening.server._connections) == 3
        for each in (late, writer, *(mine for _, mine in over_tcp)):
            each.close()
        await listening.server.drain(5)

    run(scenario())


@each_loop
def test_a_handshake_that_ends_after_the_front_took_over_is_for_one_answer(run: Run, tmp_path: Path) -> None:
    listening = Listening(Authority(tmp_path))

    async def scenario() -> None:
        port = listening.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await until(lambda: bool(listening.server._opening))
        listening.server.yield_tcp()
        await writer.start_tls(listening.trusting, server_hostname="localhost")
        writer.write(GET)
        assert b"Connection: close" in await reader.readuntil(b"\r\n\r\n")
        writer.close()
        assert await listening.server.drain(5) == 0

    run(scenario())
