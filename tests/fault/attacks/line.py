"""The line between a device and its broker: bytes pass, until a test re-routes, slows or cuts them."""

import asyncio
import contextlib
import socket
import threading


class Line:
    """A TCP port that a device believes to be its broker's.

    Args:
        target: port on loopback that connections are led to.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.swallow = False
        """Take what comes from the broker and pass nothing on: the line is up and silent."""
        self._writers: set[asyncio.StreamWriter] = set()
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._lead, sock=listener))
        self._thread = threading.Thread(target=self._loop.run_forever, name="line", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End every connection; the next one goes to :attr:`target`."""
        asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(timeout=10)

    def lead_to(self, target: int) -> None:
        """Re-route: what is connected is cut, and connects to ``target`` when it comes back."""
        self.target = target
        self.cut()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        await self._close_all()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _close_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(onward)
        await asyncio.gather(self._pump(reader, onward), self._pump(there, writer, from_broker=True))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_broker: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not (from_broker and self.swallow):
                    writer.write(data)
                    await writer.drain()
        writer.close()
        self._writers.discard(writer)
