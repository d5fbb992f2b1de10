"""Applying a patch in a few chunks of memory, from any place on.

What comes out is proven by its hash alone, which the caller checks: here everything is bounded, and nothing believed.
"""

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import zstandard

from agent.delta.errors import PatchError
from agent.delta.format import (
    CHUNK_BYTES,
    MAX_BODY_BYTES,
    MAX_OPERATION_BYTES,
    WINDOW_LOG,
    WORD,
    Header,
    Kind,
    Operation,
    Readable,
    ReadAt,
    read_header,
    read_operations,
    read_varint,
    taking,
)
from agent.delta.lanes import PIECE_BYTES, add_bytes, add_words
from agent.delta.streams import Take, read_stream
from agent.protocol.patches import PatchMethod


def file_reader(file: BinaryIO) -> ReadAt:
    """A file as a base."""

    def read_at(offset: int, length: int) -> bytes:
        return os.pread(file.fileno(), length, offset)

    return read_at


def apply_patch(
    patch: Readable, base: ReadAt | None, method: PatchMethod, *, size: int, start: int = 0
) -> Iterator[bytes]:
    """The target's bytes from ``start`` on, in pieces of 64 KiB at most.

    Args:
        patch: its bytes, read once from the front.
        base: what it was made from; None for :attr:`PatchMethod.ZSTD`.
        method: as its name says.
        size: bytes that the target has: as signed, not as the patch says.
        start: how much of the target is here already.

    Raises:
        PatchError: it is malformed, or made for another base or size. Bytes that came before may be wrong, too.
    """
    if method is PatchMethod.ZSTD:
        return _expanded(patch, size, start)
    if base is None:
        raise PatchError(f"a {method} patch needs its base")
    return _patched(patch, base, method, size, start)


def _expanded(patch: Readable, size: int, start: int) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG)
    done = 0
    try:
        with decompressor.stream_reader(patch, read_size=PIECE_BYTES) as reader:  # type: ignore[arg-type] # read alone
            while piece := reader.read(PIECE_BYTES):
                done += len(piece)
                if done > size:
                    raise PatchError(f"the patch makes more than the {size} bytes that it should")
                if done > start:
                    yield piece[max(0, len(piece) - (done - start)) :]
    except zstandard.ZstdError as error:
        raise PatchError(f"the compressed file is malformed: {error}") from error
    if done < size:
        raise PatchError(f"the patch makes {done} bytes, not the {size} that it should")


def _patched(patch: Readable, base: ReadAt, method: PatchMethod, size: int, start: int) -> Iterator[bytes]:
    take = taking(patch)
    header = read_header(take)
    if header.method is not method:
        raise PatchError(f"the patch is {header.method}, not {method} as its name says")
    if header.target_size != size:
        raise PatchError(f"the patch makes {header.target_size} bytes, not the {size} that it should")
    done = shift = 0
    while done < size:
        operations = _operations(take, shift)
        made = sum(operation.length for operation in operations)
        if done + made > size:
            raise PatchError(f"the patch makes more than the {size} bytes that it should")
        shift = next((each.shift for each in reversed(operations) if each.kind is not Kind.LITERAL), shift)
        body = _body(take, operations)
        if done + made > start:
            yield from _chunk(operations, body, base, header, done, start)
        done += made
    if patch.read(1):
        raise PatchError("the patch goes on behind its end")


def _operations(take: Take, shift: int) -> list[Operation]:
    stored = read_varint(take)
    if not 0 < stored <= MAX_OPERATION_BYTES:
        raise PatchError(f"the patch is malformed: a chunk with {stored} bytes of operations")
    return list(read_operations(bytes(read_stream(take, stored)), shift))


def _body(take: Take, operations: list[Operation]) -> bytes:
    if all(operation.kind is Kind.COPY for operation in operations):
        return b""
    length = read_varint(take)
    if length > MAX_BODY_BYTES:
        raise PatchError(f"the patch is malformed: a chunk's body has {length} bytes")
    return take(length)


def _chunk(
    operations: list[Operation], body: bytes, base: ReadAt, header: Header, place: int, start: int
) -> Iterator[bytes]:
    """The bytes of one chunk, which begins at ``place`` in the target, from ``start`` on."""
    differences, literals = _residuals(operations, body, header.method)
    add = add_words if header.method is PatchMethod.SUB32 else add_bytes
    differing = literal = 0
    for operation in operations:
        if operation.kind is not Kind.LITERAL:
            offset = place + operation.shift
            if offset < 0 or offset + operation.length > header.base_size:
                raise PatchError("the patch is malformed: it reads beyond its base")
        for begin in range(0, operation.length, PIECE_BYTES):
            length = min(PIECE_BYTES, operation.length - begin)
            wanted = place + begin + length > start
            if operation.kind is Kind.LITERAL:
                piece = bytes(literals[literal : literal + length])
                literal += length
            else:
                piece = _read(base, place + operation.shift + begin, length) if wanted else b""
                if operation.kind is Kind.DIFFER:
                    if wanted:
                        piece = add(piece, bytes(differences[differing : differing + length]))
                    differing += length
            if wanted:
                yield piece[max(0, start - place - begin) :]
        place += operation.length


def _residuals(
    operations: list[Operation], body: bytes, method: PatchMethod
) -> tuple[bytes | bytearray, bytes | bytearray]:
    lengths = {kind: sum(each.length for each in operations if each.kind is kind) for kind in Kind}
    differing, literal = lengths[Kind.DIFFER], lengths[Kind.LITERAL]
    if differing + literal > CHUNK_BYTES:
        raise PatchError(f"the patch is malformed: a chunk carries {differing + literal} bytes")
    if method is PatchMethod.SUB32 and any(
        each.length % WORD for each in operations if each.kind is Kind.DIFFER
    ):
        raise PatchError("the patch is malformed: differences of words do not end with a word")
    if not differing and not literal:
        return b"", b""
    stream = BytesIO(body)
    take = taking(stream)
    found = read_stream(take, differing), read_stream(take, literal)
    if stream.read(1):
        raise PatchError("the patch is malformed: a chunk's body goes on behind its end")
    return found


def _read(base: ReadAt, offset: int, length: int) -> bytes:
    data = base(offset, length)
    if len(data) != length:
        raise PatchError(
            f"the base has no {length} bytes at {offset}: it is not the file the patch was made from"
        )
    return data
