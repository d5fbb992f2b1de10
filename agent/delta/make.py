"""Making patches, on the hub. Needs NumPy, and some twenty times the target's size in memory."""

from collections.abc import Iterable, Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from agent.delta.align import Segment, align, cheapest_path
from agent.delta.errors import NoPatchError
from agent.delta.format import (
    CHUNK_BYTES,
    WORD,
    Header,
    Kind,
    Operation,
    write_header,
    write_operations,
    write_varint,
)
from agent.delta.packing import Bytes, pack
from agent.delta.whole import compress_whole
from agent.protocol.patches import PatchMethod

MAX_MADE_BYTES = 128 * 1024 * 1024
"""The largest file that patches are made of."""
_COPY_BYTES = 2048
"""A stretch without differences that is worth an operation."""
_PHASE_BLOCK = 64
"""Words."""
_PHASE_SWITCH_BITS = 64.0
_CHUNK_OPERATIONS = 4096

Part = tuple[Operation, int]
"""An operation, and its place in the target."""


def make_patch(base: bytes, target: bytes, method: PatchMethod) -> bytes:
    """The patch that makes ``target``; ``base`` is not looked at by :attr:`PatchMethod.ZSTD`.

    Raises:
        NoPatchError: a file is over :data:`MAX_MADE_BYTES`.
    """
    if max(len(base), len(target)) > MAX_MADE_BYTES:
        raise NoPatchError(
            f"a file of {max(len(base), len(target))} bytes; at most {MAX_MADE_BYTES} are allowed"
        )
    if method is PatchMethod.ZSTD:
        return compress_whole(target)
    before, after = np.frombuffer(base, np.uint8), np.frombuffer(target, np.uint8)
    header = Header(method, len(base), len(target))
    words = method is PatchMethod.SUB32
    parts = [part for segment in align(before, after) for part in _parts(before, after, segment, words=words)]
    return write_header(header) + b"".join(_chunks(before, after, _merged(parts), words=words))


def _parts(base: Bytes, target: Bytes, segment: Segment, *, words: bool) -> Iterator[Part]:
    """One segment as operations: what is equal for long is copied."""
    start, end, shift = segment
    if shift is None:
        yield Operation(Kind.LITERAL, end - start, 0), start
        return
    changed = np.flatnonzero(target[start:end] != base[start + shift : end + shift]) + start
    place = start
    around = WORD - 1 if words else 0
    for first, last in _stretches(changed):
        stretch = Segment(max(start, first - around), min(end, last + around), shift)
        if place < stretch.start:
            yield Operation(Kind.COPY, stretch.start - place, shift), place
        if words:
            yield from _word_parts(base, target, stretch)
        else:
            yield Operation(Kind.DIFFER, last - first, shift), first
        place = stretch.end
    if place < end:
        yield Operation(Kind.COPY, end - place, shift), place


def _stretches(changed: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of each group of places with less than ``_COPY_BYTES`` between them."""
    if not len(changed):
        return
    cuts = np.flatnonzero(np.diff(changed) > _COPY_BYTES)
    firsts = changed[np.concatenate(([0], cuts + 1))]
    lasts = changed[np.concatenate((cuts, [len(changed) - 1]))]
    yield from zip(firsts.tolist(), (lasts + 1).tolist(), strict=True)


def _word_parts(base: Bytes, target: Bytes, stretch: Segment) -> Iterator[Part]:
    """A stretch as differences of whole words, wherever they begin in it, and literals for the odd bytes between."""
    for first, last, phase in _phases(base, target, stretch):
        begin = min(last, first + (phase - first) % WORD)
        end = last - (last - begin) % WORD
        for kind, start, stop in (
            (Kind.LITERAL, first, begin),
            (Kind.DIFFER, begin, end),
            (Kind.LITERAL, end, last),
        ):
            if start < stop:
                yield Operation(kind, stop - start, 0 if kind is Kind.LITERAL else stretch.shift or 0), start


def _phases(base: Bytes, target: Bytes, stretch: Segment) -> Iterator[tuple[int, int, int]]:
    """Runs whose words begin at the same place modulo four: (first, behind the last, that place)."""
    first, last, _ = stretch
    step = _PHASE_BLOCK * WORD
    rows = max(1, (last - first) // step)
    costs = np.zeros((rows, WORD), np.float32)
    for phase in range(WORD):
        bits = np.log2(1.0 + _differences(base, target, stretch, phase), dtype=np.float32)
        starts = np.arange(rows) * _PHASE_BLOCK
        if len(bits) > starts[-1]:
            costs[:, phase] = np.add.reduceat(bits, starts)
    place, row = first, 0
    for phase, run in groupby(cheapest_path(costs, _PHASE_SWITCH_BITS).tolist()):
        row += sum(1 for _ in run)
        end = last if row == rows else first + row * step
        yield place, end, phase
        place = end


def _differences(base: Bytes, target: Bytes, stretch: Segment, phase: int) -> NDArray[np.uint32]:
    """Zigzag differences of the stretch's words that begin at ``phase``."""
    first, last, shift = stretch
    begin = min(last, first + (phase - first) % WORD)
    end = last - (last - begin) % WORD
    offset = shift or 0
    after = np.frombuffer(target[begin:end].tobytes(), "<u4")
    before = np.frombuffer(base[begin + offset : end + offset].tobytes(), "<u4")
    signed = (after - before).view(np.int32)
    zigzag: NDArray[np.uint32] = ((signed << 1) ^ (signed >> 31)).view(np.uint32)
    return zigzag


def _merged(parts: Iterable[Part]) -> Iterator[Part]:
    """Neighbours of one kind and shift as one operation."""
    held: Part | None = None
    for operation, place in parts:
        if held is not None and (held[0].kind, held[0].shift) == (operation.kind, operation.shift):
            held = held[0]._replace(length=held[0].length + operation.length), held[1]
            continue
        if held is not None:
            yield held
        held = operation, place
    if held is not None:
        yield held


def _chunks(base: Bytes, target: Bytes, parts: Iterable[Part], *, words: bool) -> Iterator[bytes]:
    shift = 0
    chunk: list[Part] = []
    carried = 0
    for part in parts:
        for operation, place in _cut(part, CHUNK_BYTES):
            size = 0 if operation.kind is Kind.COPY else operation.length
            if chunk and (carried + size > CHUNK_BYTES or len(chunk) == _CHUNK_OPERATIONS):
                data, shift = _chunk(base, target, chunk, shift, words=words)
                yield data
                chunk, carried = [], 0
            chunk.append((operation, place))
            carried += size
    if chunk:
        yield _chunk(base, target, chunk, shift, words=words)[0]


def _cut(part: Part, longest: int) -> Iterator[Part]:
    """What carries bytes in pieces that a chunk takes."""
    operation, place = part
    if operation.kind is Kind.COPY:
        yield part
        return
    for begin in range(0, operation.length, longest):
        yield operation._replace(length=min(longest, operation.length - begin)), place + begin


def _chunk(base: Bytes, target: Bytes, chunk: list[Part], shift: int, *, words: bool) -> tuple[bytes, int]:
    """One chunk, and the shift that it ends with."""
    operations, shift = write_operations([operation for operation, _ in chunk], shift)
    head = write_varint(len(operations)) + pack(np.frombuffer(operations, np.uint8))
    differences: list[Bytes] = []
    literals: list[Bytes] = []
    for operation, place in chunk:
        stretch = Segment(place, place + operation.length, operation.shift)
        if operation.kind is Kind.LITERAL:
            literals.append(target[place : place + operation.length])
        elif operation.kind is Kind.DIFFER and words:
            differences.append(_differences(base, target, stretch, place % WORD).view(np.uint8))
        elif operation.kind is Kind.DIFFER:
            differences.append(
                target[place : stretch.end] - base[place + operation.shift : stretch.end + operation.shift]
            )
    if not differences and not literals:
        return head, shift
    body = pack(_joined(differences), words=words) + pack(_joined(literals), words=True)
    return head + write_varint(len(body)) + body, shift


def _joined(parts: list[Bytes]) -> Bytes:
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)
