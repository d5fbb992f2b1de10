"""The supervisor's end of a control channel, as far as a bench needs it."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import ProtocolError
from hw_bench.errors import ServerError
from hw_bench.serving.servers import START_SECONDS

M = TypeVar("M", bound=Struct)


class Control:
    """Frames to and from one process."""

    def __init__(self, channel: socket.socket, kinds: Any) -> None:
        """``channel``: our end; ``kinds``: the union of what the process may say."""
        self._channel = channel
        self._channel.settimeout(START_SECONDS)
        self._kinds = kinds
        self._decoder = FrameDecoder()
        self._unread: list[Struct] = []
        self._thread: threading.Thread | None = None

    def send(self, message: Struct) -> None:
        """Say something."""
        self._channel.sendall(frame(message))

    def expect(self, kind: type[M]) -> M:
        """The next message that is not a sign of life; raises ``ServerError`` where it is of another kind."""
        while True:
            while self._unread:
                message = self._unread.pop(0)
                if isinstance(message, kind):
                    return message
                if type(message).__name__ != "Alive":
                    raise ServerError(f"expected {kind.__name__}, it said {message}.")
            self._read()

    def listen(self, heard: Callable[[Struct], None]) -> None:
        """Hear the rest in a thread, to the end: a process that is not listened to waits for room."""
        self._channel.settimeout(None)
        self._thread = threading.Thread(target=self._hear, args=(heard,), daemon=True)
        self._thread.start()

    def close(self, last: Struct | None = None) -> None:
        """Say ``last`` (None: hang up), which ends the process, and hear what it says before it does."""
        with contextlib.suppress(OSError):  # it has gone first
            if last is None:
                self._channel.shutdown(socket.SHUT_WR)
            else:
                self.send(last)
        if self._thread is not None:
            self._thread.join(START_SECONDS)
        self._channel.close()

    def _hear(self, heard: Callable[[Struct], None]) -> None:
        try:
            while True:
                for message in self._unread:
                    heard(message)
                self._unread.clear()
                self._read()
        except ServerError:
            return

    def _read(self) -> None:
        try:
            data = self._channel.recv(65536)
            if not data:
                raise ServerError("it closed its control channel.")
            self._unread += [decode_msgpack(payload, self._kinds) for payload in self._decoder.feed(data)]
        except (OSError, ProtocolError) as error:
            raise ServerError(f"control channel: {error}.") from error
