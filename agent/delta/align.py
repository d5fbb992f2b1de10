"""Where a target's bytes come from in a base, also where the layout has shifted. Needs NumPy; for the hub.

Shifts are candidates where rare samples of both files agree; a cheapest path over blocks (Viterbi) says which shift, or
none, explains each stretch, and the seams are then moved to the byte.
"""

from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.delta.format import WORD
from agent.delta.packing import Bytes

BLOCK_BYTES = 64
MAX_BLOCKS = 128 * 1024
"""Longer targets have larger blocks: the path takes one step a block."""
MAX_SHIFTS = 32
COMPARED_BYTES = 512 * 1024 * 1024
"""Bytes of the target times candidates: a long target has fewer of them."""
_SLAB = 1024 * 1024
_SAMPLES = 64 * 1024
_SWITCH_BITS = 48.0
"""What another shift costs in operations and seams."""
_OUTSIDE_BITS = 16.0
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WINDOWS = ((12, 1), (16, WORD))
"""(bytes, distance between them): plain ones, and the top bytes of words, which a gentle training leaves alone."""

Costs = NDArray[np.float32]


class Segment(NamedTuple):
    """``target[start:end]`` is explained by ``base[start + shift:end + shift]``; by nothing where shift is None."""

    start: int
    end: int
    shift: int | None


def align(base: Bytes, target: Bytes) -> list[Segment]:
    """Segments that cover the target in order, none of them empty."""
    if not len(target):
        return []
    if not len(base):
        return [Segment(0, len(target), None)]
    block = BLOCK_BYTES * -(-len(target) // (BLOCK_BYTES * MAX_BLOCKS))
    shifts: list[int | None] = [*_candidates(base, target), None]
    literal = _literal_bits(target)
    costs = np.stack(
        [_block_sums(base, target, shift, literal, block) for shift in shifts],
        axis=1,
    )
    path = cheapest_path(costs, _SWITCH_BITS)
    segments: list[Segment] = []
    place = 0
    for state, run in groupby(path.tolist()):
        end = min(len(target), place + block * sum(1 for _ in run))
        segments.append(Segment(place, end, shifts[state]))
        place = end
    moved = _move_seams(base, target, segments, 2 * block)
    return [part for segment in moved for part in _within(segment, len(base))]


def cheapest_path(costs: Costs, switch: float) -> NDArray[np.intp]:
    """The state of each step (row) that makes the sum of costs, and of ``switch`` for each change, smallest."""
    steps, states = costs.shape
    stay = np.empty((steps, states), np.bool_)
    best_before = np.empty(steps, np.intp)
    total = np.zeros(states, np.float64)
    for step in range(steps):
        best = int(total.argmin())
        limit = total[best] + switch
        stay[step] = total <= limit
        best_before[step] = best
        total = np.minimum(total, limit) + costs[step]
    path = np.empty(steps, np.intp)
    state = int(total.argmin())
    for step in range(steps - 1, -1, -1):
        path[step] = state
        if not stay[step, state]:
            state = int(best_before[step])
    return path


def _candidates(base: Bytes, target: Bytes) -> list[int]:
    votes: dict[int, int] = {}
    for width, distance in _WINDOWS:
        keys, places = _samples(base, width, distance)
        wanted, wanted_places = _samples(target, width, distance)
        _, left, right = np.intersect1d(keys, wanted, assume_unique=True, return_indices=True)
        shifts, counts = np.unique(places[left] - wanted_places[right], return_counts=True)
        for shift, count in zip(shifts.tolist(), counts.tolist(), strict=True):
            votes[shift] = votes.get(shift, 0) + count
    limit = max(2, min(MAX_SHIFTS, COMPARED_BYTES // len(target)))
    found = sorted(votes, key=lambda shift: (-votes[shift], abs(shift)))[:limit]
    fixed = [0, len(base) - len(target)]
    return list(dict.fromkeys([*found, *fixed]))


def _samples(data: Bytes, width: int, distance: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Keys and places of windows that occur once, about ``_SAMPLES`` of them, chosen by their content."""
    span = (width - 1) * distance + 1
    bits = max(0, (len(data) // _SAMPLES).bit_length())
    keys: list[NDArray[np.uint64]] = []
    places: list[NDArray[np.int64]] = []
    for start in range(0, max(0, len(data) - span + 1), _SLAB):
        slab = data[start : start + _SLAB + span - 1].astype(np.uint64)
        count = len(slab) - span + 1
        hashed = np.zeros(count, np.uint64)
        for place in range(width):
            hashed = (hashed + slab[place * distance : place * distance + count] + np.uint64(1)) * _MULTIPLIER
            hashed ^= hashed >> np.uint64(29)
        chosen = np.flatnonzero(hashed >> np.uint64(64 - bits) == 0) if bits else np.arange(count)
        keys.append(hashed[chosen])
        places.append(chosen + start)
    if not keys:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    unique, first, counts = np.unique(np.concatenate(keys), return_index=True, return_counts=True)
    once = counts == 1
    return unique[once], np.concatenate(places)[first[once]]


def _difference_bits() -> Costs:
    size = np.minimum(np.arange(256), 256 - np.arange(256))
    bits = np.minimum(8.0, 1.0 + 1.5 * np.log2(1.0 + size))
    bits[0] = 0.1
    return bits.astype(np.float32)


_DIFFERENCE_BITS = _difference_bits()
"""What a difference of one byte costs, about."""


def _literal_bits(target: Bytes) -> Costs:
    """What a byte costs by its frequency in the file."""
    counts = np.bincount(target, minlength=256) + 1
    return np.asarray(-np.log2(counts / counts.sum()), np.float32)


def _within(segment: Segment, size: int) -> list[Segment]:
    """The segment, with what would lie outside of a base of ``size`` bytes as a segment of its own."""
    start, end, shift = segment
    if shift is None:
        return [segment]
    low = min(end, max(start, -shift))
    high = max(low, min(end, size - shift))
    parts = (Segment(start, low, None), Segment(low, high, shift), Segment(high, end, None))
    return [part for part in parts if part.start < part.end]


def _bits(base: Bytes, part: Bytes, start: int, shift: int | None, literal: Costs) -> Costs:
    """What each byte of ``part``, which begins at ``start`` in the target, costs by that shift."""
    if shift is None:
        return literal[part]
    begin = start + shift
    bits = np.full(len(part), _OUTSIDE_BITS, np.float32)
    low, high = max(0, -begin), min(len(part), len(base) - begin)
    if low < high:
        bits[low:high] = _DIFFERENCE_BITS[part[low:high] - base[begin + low : begin + high]]
    return bits


def _block_sums(base: Bytes, target: Bytes, shift: int | None, literal: Costs, block: int) -> Costs:
    """What each block of the target costs by that shift; a slab at a time, for a cost is as large as four bytes."""
    slab = max(block, _SLAB // block * block)
    parts = []
    for start in range(0, len(target), slab):
        bits = _bits(base, target[start : start + slab], start, shift, literal)
        parts.append(np.add.reduceat(bits, np.arange(0, len(bits), block)))
    return np.concatenate(parts)


def _move_seams(base: Bytes, target: Bytes, segments: list[Segment], reach: int) -> list[Segment]:
    """Move each seam to where the bytes before it and behind it cost least."""
    literal = _literal_bits(target)
    moved = segments[:1]
    for after in segments[1:]:
        before = moved[-1]
        start, end = max(before.start, after.start - reach), min(after.end, after.start + reach)
        part = target[start:end]
        costs = [_bits(base, part, start, shift, literal) for shift in (before.shift, after.shift)]
        left = np.concatenate(([0.0], np.cumsum(costs[0], dtype=np.float64)))
        right = np.concatenate(([0.0], np.cumsum(costs[1], dtype=np.float64)))
        seam = start + int(np.argmin(left - right))
        moved[-1] = before._replace(end=seam)
        if moved[-1].start == seam:
            moved.pop()
        if seam < after.end:
            moved.append(after._replace(start=seam))
    return moved
