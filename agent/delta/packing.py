"""Writing the streams of a patch: each in the smallest of its codings. Needs NumPy; for the hub."""

from collections.abc import Iterable

import numpy as np
import zstandard
from numpy.typing import NDArray

from agent.delta.format import LONG_GAP, WORD, Coding, write_varint
from agent.delta.whole import LEVEL, compressor

Bytes = NDArray[np.uint8]

_CODES, _GLANCE = 1, 9
"""Levels of zstd: no matches sought; most of them found, in a tenth of the time of :data:`LEVEL`."""
_MATCHING, _PROMISING = 0.98, 1.2
"""How much smaller a glance must be than codes alone, and how near to the best so far, to be worth the full search."""
_CHEAP_BYTES = 32 * 1024

_SPARSE_ZEROS = 0.2
"""Share of zeros from which distances between the others are worth a try: below it never smaller, on any model tried."""


def pack(data: Bytes, *, words: bool = False) -> bytes:
    """One stream; ``words``: its bytes are little-endian words, so that planes are worth a try."""
    if not data.any():
        return write_varint(Coding.ZERO)
    candidates: list[bytes] = []
    if np.count_nonzero(data) < (1 - _SPARSE_ZEROS) * len(data):
        candidates.append(_sparse(data))
    if words and len(data) >= WORD:
        candidates.append(_planes(data))
    return _smallest(data.tobytes(), candidates)


def _smallest(data: bytes, others: Iterable[bytes] = ()) -> bytes:
    """As it is, by codes alone, and by matches where there may be some: noise has none, and the search takes long."""
    candidates = [*others, _stored(Coding.STORED, data), _zstd(data, _CODES)]
    glance = _zstd(data, _GLANCE)
    best = min(map(len, candidates))
    matches = len(glance) < _MATCHING * len(candidates[-1]) and len(glance) < _PROMISING * best
    if matches or len(data) <= _CHEAP_BYTES:
        candidates.append(_zstd(data, LEVEL))
    return min([*candidates, glance], key=len)


def _zstd(data: bytes, level: int) -> bytes:
    frames = compressor(zstandard.FORMAT_ZSTD1_MAGICLESS, len(data), content_size=False, level=level)
    return _stored(Coding.ZSTD, frames.compress(data))


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


def _planes(data: Bytes) -> bytes:
    whole = len(data) // WORD * WORD
    parts = [pack(np.ascontiguousarray(data[place:whole:WORD])) for place in range(WORD)]
    return write_varint(Coding.PLANES) + b"".join(parts) + pack(data[whole:])
