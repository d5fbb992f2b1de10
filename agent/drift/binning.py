"""Count values into the fixed bins of a reference: under, the bins, over, missing, not finite.

All signals are counted in one vector: signal after signal, each ``k + 2`` counts, then its missing count, then that of
the rows that were not finite.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.protocol.drift import SignalCounts, SignalReference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MISSING = -np.inf
"""Marks, in the column of a signal that has a ``missing_value``, the rows that had it."""

FEW_EDGES = 32
"""Up to so many edges a value is compared with each of them: for a batch of signals that is quicker than to search, and,
up to some twenty edges, than to compute the bin."""

UNIFORM_TOLERANCE = 1e-6
"""How far, in bin widths, an edge may stand from its even place and still be found by arithmetic.

Arithmetic only guesses the bin; the guess is corrected by one with the real edges, so the counts are exact.
"""


class Binner:
    """Counts signal matrices; exact, so that counts of batches add up to the counts of their union."""

    def __init__(self, signals: Sequence[SignalReference]) -> None:
        self._names = [signal.name for signal in signals]
        strides = np.array([len(signal.edges) + 3 for signal in signals], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(strides)))
        self.size = int(self._starts[-1])
        """Length of the vector of counts."""
        few: list[int] = []
        even: list[int] = []
        uneven: list[int] = []
        for column, signal in enumerate(signals):
            if len(signal.edges) <= FEW_EDGES:
                few.append(column)
            else:
                (even if is_uniform(signal.edges) else uneven).append(column)
        self._few = _FewBins(signals, few, self._starts)
        self._even = _EvenBins(signals, even, self._starts)
        self._uneven = [
            (
                column,
                _closed(signals[column].edges),
                int(self._starts[column]),
                signals[column].missing_value is not None,
            )
            for column in uneven
        ]

    def count(self, values: Floats) -> Ints:
        """Counts of a matrix of shape (rows, signals): int64 of shape (size,)."""
        counts = np.zeros(self.size, dtype=np.int64)
        self._few.add_to(counts, values)
        self._even.add_to(counts, values)
        for column, edges, start, can_miss in self._uneven:
            chosen = values[:, column]
            slots = np.searchsorted(edges, chosen, side="right")
            slots[~np.isfinite(chosen)] = len(edges) + 2
            if can_miss:
                slots[chosen == MISSING] = len(edges) + 1
            found = np.bincount(slots, minlength=len(edges) + 3)
            counts[start : start + len(found)] += found
        return counts

    def split(self, counts: Ints, repeated: Ints | None = None) -> dict[str, SignalCounts]:
        """The vector as the protocol's counts, by signal; ``repeated``: of :class:`Repeats`, zeros if None."""
        again = [0] * len(self._names) if repeated is None else repeated.tolist()
        flat: list[int] = counts.tolist()
        bounds: list[int] = self._starts.tolist()
        return {
            name: SignalCounts(
                counts=tuple(flat[start : end - 2]),
                missing=flat[end - 2],
                not_finite=flat[end - 1],
                repeated=same,
            )
            for name, start, end, same in zip(self._names, bounds[:-1], bounds[1:], again, strict=True)
        }


class Repeats:
    """Counts, for each signal, the rows that have the same number as the row before, in whatever batches they come."""

    def __init__(self, width: int) -> None:
        self.counts = np.zeros(width, dtype=np.int64)
        self._last = np.full((1, width), np.nan)

    def add(self, values: Floats) -> None:
        """Take a signal matrix, shape (rows, signals). What is not finite repeats nothing."""
        if not len(values):
            return
        same = values[1:] == values[:-1]
        first = values[:1] == self._last
        if not np.isfinite(values).all():
            finite = np.isfinite(values)
            same &= finite[1:]
            first &= finite[:1]
        # Summed as bytes, in parts that can't overflow: that is several times as fast as counting along the axis.
        for start in range(0, len(same), _BYTE):
            self.counts += np.add.reduce(same[start : start + _BYTE].view(np.uint8), axis=0, dtype=np.uint8)
        self.counts += first[0]
        self._last = values[-1:].copy()


_BYTE = 255


class _FewBins:
    """Signals with few edges, of any width, counted together: how many values reach each edge gives the counts.

    No value's bin is ever known. Each value is compared with each edge, and the answers, a byte each, are added up eight
    at a time: as the eight bytes of one integer, which holds as long as none of them counts beyond 255.
    """

    def __init__(self, signals: Sequence[SignalReference], columns: list[int], starts: Ints) -> None:
        self._columns = np.array(columns, dtype=np.intp)
        self._all = len(columns) == len(signals)
        edges = [_closed(signals[column].edges) for column in columns]
        ranks = max(map(len, edges), default=0)
        # Shape (edges, signals, 1); no value reaches an edge that a signal does not have.
        self._edges = np.full((ranks, len(columns), 1), np.inf)
        for place, own in enumerate(edges):
            self._edges[: len(own), place, 0] = own
        self._edges_float32 = _rounded_up(self._edges)
        self._reaches = np.zeros((ranks, len(columns), _PART), dtype=np.bool_)
        sizes = np.array([len(own) + 1 for own in edges], dtype=np.int64)
        firsts = starts[self._columns]
        self._used = np.arange(ranks + 1)[:, None] < sizes
        """Which of (slots, signals) there are, and where each is in the vector of counts."""
        self._slots = (firsts + np.arange(ranks + 1)[:, None])[self._used]
        self._missing = firsts + sizes
        self._can_miss = np.array([signals[column].missing_value is not None for column in columns])

    def add_to(self, counts: Ints, values: Floats) -> None:
        if not self._columns.size:
            return
        for start in range(0, len(values), _PART):
            part = values[start : start + _PART]
            self._add_part(counts, np.ascontiguousarray(part.T if self._all else part.T[self._columns]))

    def _add_part(self, counts: Ints, chosen: Floats) -> None:
        """``chosen``: shape (signals, rows), at most :data:`_PART` rows."""
        rows = chosen.shape[1]
        present: int | Ints = rows
        finite = np.isfinite(chosen)
        if not finite.all():
            missing = ((chosen == MISSING) & self._can_miss[:, None]).sum(axis=1)
            present = finite.sum(axis=1)
            counts[self._missing] += missing
            counts[self._missing + 1] += rows - present - missing
            chosen = np.where(finite, chosen, np.nan)  # which reaches no edge
        used = -(-rows // _LANES) * _LANES
        reaches = self._reaches[:, :, :used]
        with np.errstate(invalid="ignore", over="ignore"):
            short = chosen.astype(np.float32)
            if (short == chosen).all():  # as of float32 tensors and small integers: half as much to compare
                np.greater_equal(short, self._edges_float32, out=reaches[:, :, :rows])
            else:
                np.greater_equal(chosen, self._edges, out=reaches[:, :, :rows])
        reaches[:, :, rows:] = False
        reached = np.zeros((len(self._edges) + 2, len(chosen)), dtype=np.int64)
        reached[0] = present
        reached[1:-1] = _added_up(np.add.reduce(reaches.view(np.uint64), axis=-1))
        counts[self._slots] += (reached[:-1] - reached[1:])[self._used]


_LANES = 8
"""Bytes of an integer."""

_PART = 256
"""Rows that are compared at once: a multiple of :data:`_LANES`, of which each byte counts 32."""

_EVERY_SECOND = np.uint64(0x00FF00FF00FF00FF)


def _rounded_up(edges: Floats) -> NDArray[np.float32]:
    """The smallest float32 that is not below each edge: a float32 reaches the one where it reaches the other."""
    with np.errstate(over="ignore"):
        near = edges.astype(np.float32)
        up = np.nextafter(near, np.float32(np.inf))
    return np.where(near < edges, up, near)


def _added_up(lanes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The sum of the eight bytes of each integer."""
    pairs = (lanes & _EVERY_SECOND) + ((lanes >> np.uint64(8)) & _EVERY_SECOND)
    return (pairs * np.uint64(0x0001000100010001)) >> np.uint64(48)


class _EvenBins:
    """Signals whose bins are all equally wide, counted together."""

    def __init__(self, signals: Sequence[SignalReference], columns: list[int], starts: Ints) -> None:
        chosen = [signals[column].edges for column in columns]
        self._columns = np.array(columns, dtype=np.intp)
        self._all = len(columns) == len(signals)
        bins = np.array([len(edges) - 1 for edges in chosen], dtype=np.float64)
        self._low = np.array([edges[0] for edges in chosen], dtype=np.float64)
        high = np.array([edges[-1] for edges in chosen], dtype=np.float64)
        self._per_unit = bins / (high - self._low)
        self._last = bins - 1
        self._edges = np.concatenate([_closed(edges) for edges in chosen]) if chosen else np.empty(0)
        # First edge of each signal in ``_edges``; slot of "under" and of "not finite" in the vector of counts.
        self._first_edge = np.cumsum(bins + 1).astype(np.int64) - (bins.astype(np.int64) + 1)
        self._under = starts[self._columns]
        self._not_finite = starts[self._columns + 1] - 1
        self._can_miss = np.array([signals[column].missing_value is not None for column in columns])

    def add_to(self, counts: Ints, values: Floats) -> None:
        if not self._columns.size or not len(values):
            return
        chosen = values if self._all else values[:, self._columns]
        finite = np.isfinite(chosen)
        whole = bool(finite.all())
        apart = self._not_finite
        if not whole:
            apart = apart - (self._can_miss & (chosen == MISSING))
            chosen = np.where(finite, chosen, self._low)
        with np.errstate(over="ignore"):  # a huge value is clipped to the last bin, then found to be over it
            guess = (chosen - self._low) * self._per_unit
        np.maximum(guess, 0.0, out=guess)
        np.minimum(guess, self._last, out=guess)
        bins = guess.astype(np.int64)
        edge = bins + self._first_edge
        bins -= chosen < self._edges[edge]
        edge += 1
        bins += chosen >= self._edges[edge]
        bins += self._under + 1
        if not whole:
            bins = np.where(finite, bins, apart)
        counts += np.bincount(bins.ravel(), minlength=len(counts))


def _closed(edges: Sequence[float]) -> Floats:
    """Edges with the last one moved up by one step of float64, which closes the last bin under ``<``."""
    moved = np.array(edges, dtype=np.float64)
    with np.errstate(over="ignore"):  # nothing finite is over the largest float
        moved[-1] = np.nextafter(moved[-1], np.inf)
    return moved


def is_uniform(edges: Sequence[float]) -> bool:
    """Whether the bins are equally wide, closely enough that arithmetic finds a value's bin within one."""
    exact = np.array(edges, dtype=np.float64)
    bins = len(exact) - 1
    with np.errstate(all="ignore"):
        width = (exact[-1] - exact[0]) / bins
        per_unit = bins / (exact[-1] - exact[0])
        if not (np.isfinite(width) and np.isfinite(per_unit) and per_unit > 0):
            return False
        places = (exact - exact[0]) * per_unit
    return bool(np.abs(places - np.arange(bins + 1)).max() <= UNIFORM_TOLERANCE)
