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
        # No place is left, so this one waits for theirs.
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
        async with asyncio.timeout(5):
            while not listening.server._opening:  # noqa: ASYNC110 - accepting has no event
                await asyncio.sleep(0.01)
            assert await listening.server.drain(3) == 0
        assert await reader.read() == b""
        writer.close()

    run(scenario())
