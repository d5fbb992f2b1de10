"""Child processes that speak length-prefixed msgpack over a socket pair: the runner and the verifier."""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import ProtocolError
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.supervisor.errors import ChannelClosedError, ChannelProtocolError

_log = logging.getLogger(__name__)

T = TypeVar("T")

_READ_BYTES = 64 * 1024


def module_command(module: str) -> tuple[str, ...]:
    """How a module of this program is started as a process of its own, with the same interpreter."""
    return (sys.executable, "-m", module)


class FramedChannel(Generic[T]):
    """One end of a socket pair; ``kind`` is the struct, or union of tagged structs, that the other end may send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._kind = kind
        self._decoder = FrameDecoder()
        self._frames: deque[bytes] = deque()

    async def send(self, message: Struct) -> None:
        """Send one message.

        Raises:
            ChannelClosedError: nobody reads it any more.
            MessageTooLargeError: it is over one frame's limit; nothing was sent.
        """
        payload = frame(message)
        try:
            self._writer.write(payload)
            await self._writer.drain()
        except OSError as error:
            raise ChannelClosedError(f"{type(message).__name__} not sent: {error}") from error

    async def receive(self) -> T:
        """The next message.

        Raises:
            ChannelClosedError: the other end is closed.
            ChannelProtocolError: a frame is too large, or is no message of ``kind``; the channel is of no more use.
        """
        try:
            while not self._frames:
                data = await self._reader.read(_READ_BYTES)
                if not data:
                    raise ChannelClosedError("the child has closed its channel")
                self._frames.extend(self._decoder.feed(data))
            message: T = decode_msgpack(self._frames.popleft(), self._kind, limit=MAX_FRAME_BYTES)
        except OSError as error:
            raise ChannelClosedError(f"the child's channel broke: {error}") from error
        except ProtocolError as error:
            raise ChannelProtocolError(str(error)) from error
        return message

    async def close(self) -> None:
        """Close this end; the child reads end of file."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Child(Generic[T]):
    """A started process and its channel."""

    def __init__(self, process: asyncio.subprocess.Process, channel: FramedChannel[T]) -> None:
        self.process = process
        self.channel = channel

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> int:
        """Kill it if it still runs, reap it, close the channel; returns its exit code (negative: a signal)."""
        self.kill()
        code = await self.process.wait()
        await self.channel.close()
        return code


async def spawn_child(
    command: Sequence[str],
    fd_option: str,
    kind: Any,
    *,
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Child[Any]:
    """Start ``command fd_option N``, where N is the child's end of a new socket pair.

    The child gets nothing but N, ``pass_fds`` and the three standard streams (standard input is empty). ``environment``
    is added to this process's own.

    Raises:
        OSError: the system can't start it.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        reader, writer = await asyncio.open_connection(sock=ours)
        channel: FramedChannel[Any] = FramedChannel(reader, writer, kind)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                fd_option,
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), *pass_fds),
                env={**os.environ, **(environment or {})},
            )
        except BaseException:
            await channel.close()
            raise
    _log.debug("child started", extra={"pid": process.pid, "command": list(command)})
    return Child(process, channel)
