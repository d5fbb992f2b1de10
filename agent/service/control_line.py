"""One client at the control socket: lines in, and with a line perhaps an open file (``SCM_RIGHTS``); lines out.

asyncio's streams drop what travels beside the bytes, so this reads the socket itself.
"""

import asyncio
import contextlib
import os
import socket

RECEIVE_BYTES = 4096
HANG_UP_SECONDS = 1.0
HANG_UP_READS = 256
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class LineTooLongError(Exception):
    """A line is over the limit; nothing can be read on."""


class ControlClient:
    """A connected, non-blocking socket."""

    def __init__(self, connection: socket.socket, *, limit: int) -> None:
        self.connection = connection
        self._limit = limit
        self._buffer = bytearray()
        self._descriptor: int | None = None

    async def line(self) -> bytes:
        """The next line without its end; what came before the other side closed; empty at the end.

        Raises:
            LineTooLongError: it is over the limit.
            ConnectionError: the connection broke.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) >= self._limit:
                raise LineTooLongError
            data = await self._receive()
            if not data:
                rest = bytes(self._buffer)
                self._buffer.clear()
                return rest
            self._buffer += data
        if end >= self._limit:
            raise LineTooLongError
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def take_descriptor(self) -> int | None:
        """The open file that came with the newest line, for the caller to close; None where none did."""
        descriptor, self._descriptor = self._descriptor, None
        return descriptor

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError where nobody reads any more."""
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def hang_up(self) -> None:
        """Say that nothing more will be read, and read the rest: a close over unread bytes would take the answer back."""
        self.connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_UP_SECONDS):
                for _ in range(HANG_UP_READS):
                    if not await self._receive():
                        return

    def close(self) -> None:
        """Also closes a file that nobody has taken."""
        self._keep(None)
        self.connection.close()

    async def _receive(self) -> bytes:
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(
                    self.connection, RECEIVE_BYTES, 1, _FLAGS
                )
            except BlockingIOError:
                await self._readable()
                continue
            for descriptor in descriptors:
                self._keep(descriptor)
            return data

    def _keep(self, descriptor: int | None) -> None:
        """The newest one counts."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self.connection, _settle, ready)
        try:
            await ready
        finally:
            loop.remove_reader(self.connection)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
