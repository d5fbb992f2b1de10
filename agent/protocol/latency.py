"""A mergeable sketch of latencies: runner, supervisor and hub add the same bins up, and nothing is averaged.

It is a histogram with logarithmic bins, as in DDSketch (Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable
quantile sketch with relative-error guarantees", VLDB 2019): value ``x`` falls in bin ``ceil(log_g(x))`` with
``g = (1 + a) / (1 - a)``, and the bin's answer ``2 g^i / (g + 1)`` is within ``a · x`` of it.
"""

import math
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

RELATIVE_ERROR = 0.01
"""Of every quantile between :data:`SHORTEST` and :data:`LONGEST`."""

SHORTEST = 1e-6
"""Seconds; what is shorter counts as this."""

LONGEST = 1_000.0
"""Seconds; what is longer counts as this."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)
_OFFSET = math.ceil(math.log(SHORTEST) * _PER_LOG)
BINS = math.ceil(math.log(LONGEST) * _PER_LOG) - _OFFSET + 1
"""Bins there are; bin 0 holds the shortest."""

BinIndex = Annotated[int, Meta(ge=0, lt=BINS)]
BinCount = Annotated[int, Meta(gt=0, le=2**53)]


class LatencyBins(Struct, frozen=True, kw_only=True):
    """A sketch on the wire: the bins that are not empty."""

    counts: Annotated[tuple[tuple[BinIndex, BinCount], ...], Meta(max_length=BINS)] = ()
    """Pairs of a bin and the durations that fell into it."""


def slower_than(bins: LatencyBins, seconds: float) -> int:
    """How many of them took longer; what fell into the same bin as ``seconds`` (within :data:`RELATIVE_ERROR`) did not."""
    limit = _index(seconds)
    return sum(count for index, count in bins.counts if index > limit)


def _index(seconds: float) -> int:
    bounded = SHORTEST if not seconds > SHORTEST else min(seconds, LONGEST)
    return math.ceil(math.log(bounded) * _PER_LOG) - _OFFSET


class LatencySketch:
    """Quantiles of durations in seconds, within :data:`RELATIVE_ERROR`; sketches add up (and subtract) exactly."""

    __slots__ = ("_counts", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0
        """Durations taken."""

    @classmethod
    def of(cls, parts: Iterable[LatencyBins]) -> "LatencySketch":
        """The sum of ``parts``."""
        sketch = cls()
        for part in parts:
            sketch.merge(part)
        return sketch

    def add(self, seconds: float) -> None:
        """Take one duration."""
        index = _index(seconds)
        self._counts[index] = self._counts.get(index, 0) + 1
        self.total += 1

    def merge(self, bins: LatencyBins) -> None:
        """Add durations."""
        for index, count in bins.counts:
            self._counts[index] = self._counts.get(index, 0) + count
            self.total += count

    def remove(self, bins: LatencyBins) -> None:
        """Take back durations that were merged before.

        Raises:
            ValueError: a bin holds fewer than are to be taken out of it; nothing was changed.
        """
        counts = self._counts
        for index, count in bins.counts:
            if counts.get(index, 0) < count:
                raise ValueError(
                    f"latency sketch: bin {index} holds {counts.get(index, 0)}, {count} can't be removed"
                )
        for index, count in bins.counts:
            counts[index] -= count
            if not counts[index]:
                del counts[index]
            self.total -= count

    def bins(self) -> LatencyBins:
        """What is taken, in the form for the wire."""
        return LatencyBins(counts=tuple(sorted(self._counts.items())))

    def quantile(self, fraction: float) -> float | None:
        """The duration in seconds at ``fraction`` (0-1) of the ranks; None while there is none."""
        if not self.total:
            return None
        rank = fraction * (self.total - 1)
        seen = 0
        for index, count in sorted(self._counts.items()):
            seen += count
            if seen > rank:
                return 2 * math.pow(_GAMMA, index + _OFFSET) / (_GAMMA + 1)
        raise AssertionError("the total is the sum of the counts")
