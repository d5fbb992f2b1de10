"""The child's side of the socket pair: one request, its fetches, one result."""

import logging
import socket
from collections import deque
from typing import TypeVar

from agent.protocol.codec import FrameDecoder, decode_msgpack, frame
from agent.protocol.errors import MessageTooLargeError, ProtocolError
from agent.protocol.limits import MAX_FRAME_BYTES
from agent.protocol.state import Reason
from agent.protocol.verification import (
    FetchedMetadata,
    FetchMetadata,
    ToVerifier,
    VerifyRequest,
    VerifyResult,
)
from agent.trust.errors import MALFORMED, VERIFIER, RefusedError
from agent.trust.verify import verify

logger = logging.getLogger(__name__)

RECEIVE_BYTES = 64 * 1024

T = TypeVar("T", VerifyRequest, FetchedMetadata)


class ParentChannel:
    """Frames to and from the supervisor, one question at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder = FrameDecoder()
        self._frames: deque[bytes] = deque()

    def receive(self, kind: type[T]) -> T:
        """The next message.

        Raises:
            EOFError: the parent has closed the socket.
            ProtocolError: not a message of ``kind``.
        """
        while not self._frames:
            data = self._connection.recv(RECEIVE_BYTES)
            if not data:
                raise EOFError("the supervisor closed the socket")
            self._frames.extend(self._decoder.feed(data))
        message = decode_msgpack(self._frames.popleft(), ToVerifier, limit=MAX_FRAME_BYTES)
        if not isinstance(message, kind):
            raise ProtocolError(f"{type(message).__name__} where {kind.__name__} was expected")
        return message

    def fetch(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        """Ask the parent for one file.

        Raises:
            RefusedError: ``malformed``: the answer can't be read, or is larger than any answer may be.
        """
        self._connection.sendall(frame(FetchMetadata(name=name, maximum_bytes=maximum_bytes)))
        try:
            return self.receive(FetchedMetadata)
        except ProtocolError as error:
            raise RefusedError(MALFORMED, f"{name}: {error}") from error

    def answer(self, result: VerifyResult) -> None:
        """Send the result."""
        try:
            data = frame(result)
        except MessageTooLargeError as error:
            data = frame(VerifyResult(refusal=Reason(code=VERIFIER, text=str(error)), marks=result.marks))
        self._connection.sendall(data)


def serve(connection: socket.socket) -> None:
    """Answer one request.

    Raises:
        EOFError: the parent has closed the socket.
        ProtocolError: the request is not one.
    """
    channel = ParentChannel(connection)
    request = channel.receive(VerifyRequest)
    try:
        result = verify(request, channel.fetch)
    except EOFError:
        raise
    except Exception as error:
        # A fault of this program, not a verdict on the hub; the parent keeps what it has.
        logger.exception("the check failed", extra={"device": request.device})
        reason = Reason(code=VERIFIER, text=f"the verifier failed: {type(error).__name__}: {error}")
        result = VerifyResult(refusal=reason, marks=request.marks)
    channel.answer(result)
