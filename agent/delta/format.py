"""The format of ``sub8`` and ``sub32`` patches: what maker and device share.

::

    patch   = "EWD" method(1 byte: 8 | 32) base size, target size, chunk*
    chunk   = size of the operations, stream(operations), size of the body, body
    body    = stream(differences), stream(literals); none where there are neither
    stream  = stored bytes * 8 + coding, data

Which files it is for, its name says, and their signed hashes decide: it carries none. Integers are LEB128.
A chunk makes the next stretch of the target, so that applying can begin at any of them. An operation is
``length * 3 + kind``; COPY and DIFFER add the change of the shift (place in the base minus place in the target), zigzag.
Differences and literals of a chunk are :data:`CHUNK_BYTES` at most; what is copied is free.
"""

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

from agent.delta.errors import PatchError
from agent.protocol.patches import PatchMethod

MAGIC = b"EWD"
CHUNK_BYTES = 512 * 1024
"""Differences and literals of one chunk: with the buffers beside them, what a device holds in memory."""
MAX_OPERATIONS = 16 * 1024
"""Operations of one chunk: bounds the time that a chunk can take."""
MAX_OPERATION_BYTES = 64 * 1024
MAX_SIZE = 2**40
MAX_BODY_BYTES = CHUNK_BYTES + 1024
WINDOW_LOG = 19
"""The zstd window that a device sets memory aside for, as a power of two."""
WORD = 4

METHOD_BYTES = {PatchMethod.SUB8: 8, PatchMethod.SUB32: 32}
_METHODS = {byte: method for method, byte in METHOD_BYTES.items()}
_MAX_VARINT_BYTES = 9


class Coding(IntEnum):
    """How the bytes of a stream are stored."""

    ZERO = 0
    """All zero; nothing is stored."""
    STORED = 1
    ZSTD = 2
    """A zstd frame without its magic number."""
    SPARSE = 3
    """Bytes of distances (:data:`LONG_GAP` means: so far, and nothing here), stream(distances), stream(the bytes
    that are not zero)."""
    PLANES = 4
    """Four streams, of every fourth byte each, then stream(what is left over)."""


LONG_GAP = 255


class Kind(IntEnum):
    """What an operation does."""

    COPY = 0
    """Bytes of the base as they are."""
    DIFFER = 1
    """Bytes of the base plus differences: byte by byte, or little-endian words plus zigzag differences."""
    LITERAL = 2
    """New bytes."""


class Operation(NamedTuple):
    kind: Kind
    length: int
    """Bytes of the target."""
    shift: int
    """Place in the base minus place in the target; 0 for a literal."""


class Header(NamedTuple):
    method: PatchMethod
    base_size: int
    target_size: int


class Readable(Protocol):
    """A binary stream, read forward only."""

    def read(self, size: int, /) -> bytes: ...


ReadAt = Callable[[int, int], bytes]
"""The base: ``(offset, length)`` → those bytes, fewer at its end."""


def write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - as below
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(take: Callable[[int], bytes]) -> int:
    """Read one integer below 2**63.

    Raises:
        PatchError: it is longer.
    """
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        (byte,) = take(1)
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 - the format's own mark
            return value
    raise PatchError("the patch is malformed: a number has no end")


def zigzag(value: int) -> int:
    return value << 1 if value >= 0 else -value * 2 - 1


def unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def taking(stream: Readable) -> Callable[[int], bytes]:
    """Read exactly as many bytes as asked for, else raise PatchError."""

    def take(size: int) -> bytes:
        data = stream.read(size)
        while len(data) < size:
            more = stream.read(size - len(data))
            if not more:
                raise PatchError("the patch is cut short")
            data += more
        return data

    return take


def write_header(header: Header) -> bytes:
    return b"".join(
        (
            MAGIC,
            bytes([METHOD_BYTES[header.method]]),
            write_varint(header.base_size),
            write_varint(header.target_size),
        )
    )


def read_header(take: Callable[[int], bytes]) -> Header:
    """Read what comes first.

    Raises:
        PatchError: it is no patch of this format.
    """
    magic = take(len(MAGIC))
    if magic != MAGIC:
        raise PatchError(f"this is no patch: it begins with {magic!r}, not {MAGIC!r}")
    (byte,) = take(1)
    method = _METHODS.get(byte)
    if method is None:
        raise PatchError(f"the patch's method is {byte}; known are {', '.join(map(str, _METHODS))}")
    header = Header(method, read_varint(take), read_varint(take))
    if max(header.base_size, header.target_size) > MAX_SIZE:
        raise PatchError("the patch is malformed: its files are larger than files are")
    return header


def write_operations(operations: Iterable[Operation], shift: int) -> tuple[bytes, int]:
    """The bytes of a chunk's operations, ``shift`` being the last one of the chunk before; and the last one now."""
    out = bytearray()
    for operation in operations:
        out += write_varint(operation.length * len(Kind) + operation.kind)
        if operation.kind is not Kind.LITERAL:
            out += write_varint(zigzag(operation.shift - shift))
            shift = operation.shift
    return bytes(out), shift


def read_operations(data: bytes, shift: int) -> Iterator[Operation]:
    """Undo :func:`write_operations`.

    Raises:
        PatchError: they are malformed, or too many.
    """
    place = 0

    def take(size: int) -> bytes:
        nonlocal place
        part = data[place : place + size]
        if len(part) < size:
            raise PatchError("the patch is malformed: an operation is cut short")
        place += size
        return part

    for _ in range(MAX_OPERATIONS):
        if place == len(data):
            return
        length, kind = divmod(read_varint(take), len(Kind))
        if length == 0:
            raise PatchError("the patch is malformed: an operation makes nothing")
        if kind == Kind.LITERAL:
            yield Operation(Kind.LITERAL, length, 0)
        else:
            shift += unzigzag(read_varint(take))
            yield Operation(Kind(kind), length, shift)
    if place < len(data):
        raise PatchError(f"the patch is malformed: a chunk has more than {MAX_OPERATIONS} operations")
