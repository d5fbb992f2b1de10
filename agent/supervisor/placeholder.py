"""Answers for a model that nothing serves: 503 and the reason, on the same sockets that its runner will use.

It accepts by itself on the inherited listening sockets instead of asking asyncio for a server, because asyncio closes the
listening socket (and on Python 3.13 unlinks its path) when a server stops, and here stopping means handing over.
"""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Sequence
from functools import partial

from agent.protocol.access import TlsFiles
from agent.web.tls import TlsError, server_context

_log = logging.getLogger(__name__)

_MAXIMUM_CONNECTIONS = 64
_MAXIMUM_HEADER_BYTES = 64 * 1024
_MAXIMUM_DISCARDED_BYTES = 64 * 1024 * 1024
_PATIENCE_SECONDS = 10.0
"""For a client to send its header."""
_LINGER_SECONDS = 2.0
"""For a client to finish sending what is thrown away."""
_RETRY_SECONDS = 0.5
_CLOSED_EARLY_ERRORS = (ConnectionError, asyncio.IncompleteReadError, TimeoutError, ssl.SSLError)


class Placeholder:
    """Serves a model's shared sockets while no runner does. Starts paused."""

    def __init__(self, sockets: Sequence[socket.socket], *, tls: TlsFiles | None = None) -> None:
        """``tls``: what TCP sockets speak; while its files can't be used, clients of TCP are closed without an answer."""
        self._sockets = tuple(sockets)
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._reason = ""
        self._serving = False
        self._watched = False
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def serving(self) -> bool:
        return self._serving

    @property
    def reason(self) -> str:
        """What clients are told, in plain words."""
        return self._reason

    def resume(self, reason: str) -> None:
        """Accept connections (again) and tell each one ``reason``."""
        self._reason = reason
        if not self._serving:
            self._read_certificate()
        self._serving = True
        self._watch()

    def _read_certificate(self) -> None:
        """Again at each outage, so that a renewed one is used; one that is half written leaves the one before."""
        if self._tls is None or all(each.family == socket.AF_UNIX for each in self._sockets):
            return
        try:
            self._context = server_context(self._tls)
        except TlsError:
            _log.exception("the placeholder can't speak TLS")

    def pause(self) -> None:
        """Stop accepting, at once. Connections that wait are left to whoever accepts next; accepted ones are answered."""
        self._serving = False
        self._watch()

    def drop(self, listener: socket.socket) -> None:
        """Leave one of the sockets to somebody else, for good."""
        if self._watched:
            asyncio.get_running_loop().remove_reader(listener.fileno())
        self._sockets = tuple(each for each in self._sockets if each is not listener)

    async def close(self) -> None:
        """Pause, and end every open connection; the listening sockets stay open."""
        self.pause()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _watch(self) -> None:
        """Accept exactly while it serves and has room; the others wait in the listen queue."""
        wanted = self._serving and len(self._connections) < _MAXIMUM_CONNECTIONS
        if wanted == self._watched:
            return
        self._watched = wanted
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            if wanted:
                loop.add_reader(each.fileno(), self._accept, each)
            else:
                loop.remove_reader(each.fileno())

    def _look_away(self) -> None:
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each.fileno())
        self._watched = False
        loop.call_later(_RETRY_SECONDS, self._watch)

    def _accept(self, listener: socket.socket) -> None:
        # Accepted and owned in one step: a cancelled `await sock_accept` could drop a client.
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another process that shares the socket was faster
        except OSError:
            # For instance no descriptor is free. The connection stays readable, so look away for a while.
            _log.exception("the placeholder can't accept")
            self._look_away()
            return
        connection.setblocking(False)
        task = asyncio.create_task(self._answer(connection))
        self._connections.add(task)
        task.add_done_callback(partial(self._forget, connection))
        self._watch()

    def _forget(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        connection.close()  # one cancelled before its first step has not closed it
        self._connections.discard(task)
        self._watch()
        if not task.cancelled() and task.exception() is not None:
            _log.error("the placeholder failed to answer", exc_info=task.exception())

    async def _answer(self, connection: socket.socket) -> None:
        tls = self._tls is not None and connection.family != socket.AF_UNIX
        if tls and self._context is None:
            return
        try:
            reader, writer = await _streams(connection, self._context if tls else None)
        except OSError:
            return  # gone, or no handshake
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                writer.write(await self._response(reader))
                await writer.drain()
            await _linger(reader, writer)
        except _CLOSED_EARLY_ERRORS:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _response(self, reader: asyncio.StreamReader) -> bytes:
        try:
            header = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _http(
                431, "Request Header Fields Too Large", _error("the request's header is over 64 KiB")
            )
        words = header.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):  # noqa: PLR2004 - method, target, version
            return _http(400, "Bad Request", _error("not an HTTP/1.1 request"))
        method, target, _ = words
        if target.partition(b"?")[0] == b"/v2/health/live":
            return _http(200, "OK", b"")
        return _http(503, "Service Unavailable", _error(self._reason), head=method == b"HEAD")


async def _streams(
    connection: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_MAXIMUM_HEADER_BYTES)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(
        lambda: protocol,
        connection,
        ssl=tls,
        ssl_handshake_timeout=None if tls is None else _PATIENCE_SECONDS,
        ssl_shutdown_timeout=None if tls is None else _LINGER_SECONDS,
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what the client still sends: closing over unread data resets the connection and destroys the answer."""
    if writer.can_write_eof():
        writer.write_eof()
    left = _MAXIMUM_DISCARDED_BYTES
    async with asyncio.timeout(_LINGER_SECONDS):
        while left > 0 and (data := await reader.read(_MAXIMUM_HEADER_BYTES)):
            left -= len(data)


def _error(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


def _http(status: int, phrase: str, body: bytes, *, head: bool = False) -> bytes:
    lines = [f"HTTP/1.1 {status} {phrase}", f"Content-Length: {len(body)}", "Connection: close"]
    if body:
        lines.append("Content-Type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)
