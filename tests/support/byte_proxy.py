"""A TCP proxy on loopback that counts every byte, and cuts connections where it is told to."""

import asyncio
import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

READ_BYTES = 16 * 1024


class ByteProxy:
    """Between clients and ``target``; runs in a thread of its own.

    Attributes:
        to_client: bytes that were handed to clients since the last :meth:`reset`.
        to_server: the other way.
        connections: that were taken since then.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.to_client = 0
        self.to_server = 0
        self.connections = 0
        self._cut_at: int | None = None
        self._closed = False
        self._stay_closed = False
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.was_cut = threading.Event()

    def reset(self) -> None:
        """Count anew."""
        self.to_client = self.to_server = self.connections = 0

    def cut_after(self, count: int, *, stay_closed: bool = False) -> None:
        """Cut every connection once so many more bytes have gone to clients; then refuse new ones, or not."""
        self.was_cut.clear()
        self._stay_closed = stay_closed
        self._cut_at = self.to_client + count

    def close_door(self) -> None:
        """Cut everything, and take nobody."""
        self._closed = True
        self._loop.call_soon_threadsafe(self._cut)

    def open_door(self) -> None:
        """Take clients again."""
        self._closed = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket))
        self._loop.run_forever()
        self._cut()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    def _cut(self) -> None:
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        pair = (writer, back)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._up(reader, back), self._down(there, writer))
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                writer.write(data)
                await writer.drain()
                self.to_server += len(data)
            writer.transport.abort()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if self._cut_at is not None and self.to_client + len(data) >= self._cut_at:
                    data = data[: self._cut_at - self.to_client]
                    self._cut_at = None
                    self._closed = self._stay_closed
                    writer.write(data)
                    await writer.drain()
                    self.to_client += len(data)
                    await asyncio.sleep(0.05)  # what was handed over shall arrive: an abort may overtake it
                    self._cut()
                    self.was_cut.set()
                    return
                writer.write(data)
                await writer.drain()
                self.to_client += len(data)
            writer.transport.abort()
