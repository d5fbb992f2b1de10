"""Reading the streams of a patch, within the sizes that its operations allow."""

from collections.abc import Callable
from io import BytesIO
from itertools import accumulate, compress

import zstandard

from agent.delta.errors import PatchError
from agent.delta.format import LONG_GAP, WINDOW_LOG, WORD, Coding, read_varint

Take = Callable[[int], bytes]

_SLACK = 64
"""Bytes by which something stored may be longer than what it stands for."""
_STEPS = bytes(min(gap + 1, LONG_GAP) for gap in range(256))
_HITS = bytes(gap != LONG_GAP for gap in range(256))


def read_stream(take: Take, size: int, *, depth: int = 0) -> bytes | bytearray:
    """The next stream, which must hold ``size`` bytes.

    Raises:
        PatchError: it is malformed, or holds another number of bytes.
    """
    stored, code = divmod(read_varint(take), 8)
    if code == Coding.ZERO and not stored:
        return bytes(size)
    if code == Coding.STORED and stored == size:
        return take(stored)
    if code == Coding.ZSTD and stored <= size + _SLACK:
        return expand(take(stored), size)
    if code == Coding.SPARSE and not stored and depth < 2:  # noqa: PLR2004 - planes of sparse of plain ones
        return _sparse(take, size, depth)
    if code == Coding.PLANES and not stored and depth < 1:
        return _planes(take, size)
    raise PatchError(
        f"the patch is malformed: no stream of {size} bytes is stored as {stored} bytes by {code}"
    )


def expand(data: bytes, size: int) -> bytes:
    """Decompress one frame without a magic number.

    A frame's own word on its size is not believed: reading stops at ``size``, and its window is bounded.

    Raises:
        PatchError: it is malformed, or holds another number of bytes.
    """
    decompressor = zstandard.ZstdDecompressor(
        max_window_size=1 << WINDOW_LOG, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    try:
        with decompressor.stream_reader(BytesIO(data), read_size=len(data) or 1) as reader:
            found = reader.read(size)
            more = reader.read(1)
    except zstandard.ZstdError as error:
        raise PatchError(f"the patch is malformed: {error}") from error
    if len(found) != size or more:
        raise PatchError(f"the patch is malformed: a frame does not hold the {size} bytes that it should")
    return found


def _planes(take: Take, size: int) -> bytearray:
    words = size // WORD
    out = bytearray(size)
    for place in range(WORD):
        out[place : words * WORD : WORD] = read_stream(take, words, depth=1)
    out[words * WORD :] = read_stream(take, size % WORD, depth=1)
    return out


def _sparse(take: Take, size: int, depth: int) -> bytearray:
    count = read_varint(take)
    if count > size + size // LONG_GAP:
        raise PatchError("the patch is malformed: more differences than bytes")
    gaps = bytes(read_stream(take, count, depth=depth + 2))
    hits = gaps.translate(_HITS)
    values = read_stream(take, sum(hits), depth=depth + 2)
    out = bytearray(size)
    places = compress(accumulate(gaps.translate(_STEPS)), hits)
    try:
        for place, value in zip(places, values, strict=True):
            out[place - 1] = value
    except IndexError as error:
        raise PatchError("the patch is malformed: a difference lies beyond the end") from error
    return out
