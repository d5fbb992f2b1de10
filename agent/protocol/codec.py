"""Encode and decode messages, with one size limit and errors in the field's terms."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar, get_args

import msgspec

from agent.protocol.errors import MalformedMessageError, MessageTooLargeError
from agent.protocol.limits import MAX_FRAME_BYTES, MAX_MESSAGE_BYTES

T = TypeVar("T")

_to_json = msgspec.json.Encoder(order="deterministic").encode
_to_msgpack = msgspec.msgpack.Encoder(order="deterministic").encode


def describe_structs() -> None:
    """Have msgspec describe every struct that is loaded: a process with threads says this before it starts one.

    Otherwise msgspec (0.22) describes a struct when it is first decoded, and shows a description that is half made to any other
    thread that decodes the struct, or one that holds it, just then. The process dies of it (SIGSEGV).
    """
    for kind in _structs(msgspec.Struct):
        with suppress(TypeError, NameError):  # one that is never decoded
            msgspec.json.Decoder(kind)


def _structs(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for child in kind.__subclasses__():
        yield child
        yield from _structs(child)


def encode_json(message: Any, *, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """Encode as deterministic JSON.

    Raises:
        MessageTooLargeError: the encoded form is over ``limit`` bytes.
    """
    return _within(_to_json(message), limit, type(message).__name__)


def decode_json(payload: bytes, kind: type[T], *, limit: int = MAX_MESSAGE_BYTES) -> T:
    """Decode JSON as ``kind``.

    Raises:
        MessageTooLargeError: ``payload`` is over ``limit`` bytes.
        MalformedMessageError: it is not JSON, or a field breaks its rule; the text names the field.
    """
    _within(payload, limit, kind.__name__)
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessageError(f"{kind.__name__}: {error}") from error


def encode_msgpack(message: Any, *, limit: int = MAX_MESSAGE_BYTES) -> bytes:
    """Encode as msgpack; raises like :func:`encode_json`."""
    return _within(_to_msgpack(message), limit, type(message).__name__)


def decode_msgpack(payload: bytes, kind: Any, *, limit: int = MAX_MESSAGE_BYTES) -> Any:
    """Decode msgpack as ``kind`` (a struct or a union of tagged structs); raises like :func:`decode_json`."""
    name = _name(kind)
    _within(payload, limit, name)
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessageError(f"{name}: {error}") from error


def _name(kind: Any) -> str:
    """``Block or TransferProblem`` of a union."""
    names = [each.__name__ for each in get_args(kind)]
    return " or ".join(names) if names else getattr(kind, "__name__", str(kind))


def _within(payload: bytes, limit: int, name: str) -> bytes:
    if len(payload) > limit:
        raise MessageTooLargeError(f"{name}: {len(payload)} bytes, at most {limit} are allowed")
    return payload


HEADER_BYTES = 4


def frame(message: Any) -> bytes:
    """One length-prefixed msgpack frame (big-endian ``uint32``, then the payload) for a local stream socket."""
    payload = encode_msgpack(message, limit=MAX_FRAME_BYTES)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream back into frames; holds at most one unfinished frame."""

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take ``data`` and return every payload that is now complete.

        Raises:
            MessageTooLargeError: the next frame announces more than the limit.
        """
        self._buffer += data
        frames: list[bytes] = []
        while len(self._buffer) >= HEADER_BYTES:
            size = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
            if size > self._limit:
                raise MessageTooLargeError(
                    f"frame: {size} bytes announced, at most {self._limit} are allowed"
                )
            end = HEADER_BYTES + size
            if len(self._buffer) < end:
                break
            frames.append(bytes(self._buffer[HEADER_BYTES:end]))
            del self._buffer[:end]
        return frames
