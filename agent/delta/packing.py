"""Writing the streams of a patch: each in the smallest of its codings. Needs NumPy; for the hub."""

import numpy as np
import zstandard
from numpy.typing import NDArray

from agent.delta.format import LONG_GAP, WORD, Coding, write_varint
from agent.delta.whole import compressor

Bytes = NDArray[np.uint8]

_SPARSE_ZEROS = 0.2
"""Share of zeros from which distances between the others are worth a try: below it never smaller, on any model tried."""


def pack(data: Bytes, *, words: bool = False) -> bytes:
    """One stream; ``words``: its bytes are little-endian words, so that planes are worth a try."""
    if not data.any():
        return write_varint(Coding.ZERO)
    candidates = [*_plain(data.tobytes())]
    if np.count_nonzero(data) < (1 - _SPARSE_ZEROS) * len(data):
        candidates.append(_sparse(data))
    if words and len(data) >= WORD:
        candidates.append(_planes(data))
    return min(candidates, key=len)


def _plain(data: bytes) -> tuple[bytes, bytes]:
    frame = compressor(zstandard.FORMAT_ZSTD1_MAGICLESS, len(data), content_size=False).compress(data)
    return _stored(Coding.STORED, data), _stored(Coding.ZSTD, frame)


def _stored(coding: Coding, data: bytes) -> bytes:
    return write_varint(len(data) * 8 + coding) + data


def _sparse(data: Bytes) -> bytes:
    places = np.flatnonzero(data)
    distances = np.diff(places, prepend=-1) - 1
    long = distances // LONG_GAP
    gaps = np.full(len(places) + int(long.sum()), LONG_GAP, np.uint8)
    gaps[np.cumsum(long + 1) - 1] = distances % LONG_GAP
    parts = (_smallest(gaps.tobytes()), _smallest(data[places].tobytes()))
    return write_varint(Coding.SPARSE) + write_varint(len(gaps)) + b"".join(parts)


def _smallest(data: bytes) -> bytes:
    return min(_plain(data), key=len)


def _planes(data: Bytes) -> bytes:
    whole = len(data) // WORD * WORD
    parts = [pack(np.ascontiguousarray(data[place:whole:WORD])) for place in range(WORD)]
    return write_varint(Coding.PLANES) + b"".join(parts) + pack(data[whole:])
