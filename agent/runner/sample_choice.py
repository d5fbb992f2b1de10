"""How informative a row is, by the release's own reference: no threshold has to be set for a model (pure)."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.drift.binning import MISSING
from agent.protocol.drift import DriftReference, SignalReference
from agent.protocol.samples import SamplePolicy, SampleReason

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]
Flags = NDArray[np.bool_]

RARE_SHARE = 0.01
"""A reference that has more than this share of its own rows outside its range says nothing by one more."""
OVER_FACTOR = 5.0
OVER_EXCESS = 0.1
"""A bin is over-represented with this many times the reference's share, and at least this much more of all rows."""
OVER_ROWS = 100
"""Rows that must have been seen before that is said."""
MEMORY_ROWS = 2_000
"""Rows that weigh in what was seen lately; older ones fade."""
OUTSIDE_COUNTED = 3
"""Values outside the reference that raise a row's score; more say no more."""

DEPTH_COUNTED = 3.0

_SURENESS = {"confidence": 1.0, "margin": 1.0, "entropy": -1.0}
"""Summaries that say how sure the model is, and which way."""


class Choice(NamedTuple):
    """Why a row is worth keeping; no reason: it is not."""

    why: tuple[SampleReason, ...]
    score: float
    likeness: str
    """As :attr:`agent.protocol.samples.KeptSample.likeness`."""
    confidence: float | None


class Chooser:
    """Scores rows by their signals; remembers what it saw lately. Slots of a signal are under, its bins, over, missing, not finite."""

    def __init__(self, reference: DriftReference, policy: SamplePolicy) -> None:
        signals = reference.signals
        self._wanted = frozenset(policy.reasons)
        self._sure = next((j for j, each in enumerate(signals) if each.summary in _SURENESS), None)
        self._names_it = self._sure is not None and signals[self._sure].summary == "confidence"
        self._limit = (
            None if self._sure is None else _low_limit(signals[self._sure], policy.low_confidence_share)
        )
        alike = [j for j, each in enumerate(signals) if each.summary not in _SURENESS]
        self._alike = alike or list(range(len(signals)))
        self._columns = np.arange(len(signals))
        self._ends = np.array([len(each.edges) for each in signals], dtype=np.intp)
        """The slot of "over"; those of missing and not finite come after it."""
        most = int(self._ends.max())
        self._edges = np.full((len(signals), most), np.inf)
        self._shares = np.zeros((len(signals), most + 3))
        for j, each in enumerate(signals):
            self._edges[j, : len(each.edges)] = each.edges
            counts = np.array([*each.counts, each.missing, each.not_finite], dtype=np.float64)
            self._shares[j, : len(counts)] = counts / max(float(counts.sum()), 1.0)
        self._last = np.array([each.edges[-1] for each in signals])
        self._rare, self._inner = self._flags(signals)
        self._seen = np.zeros_like(self._shares)

    def _flags(self, signals: Sequence[SignalReference]) -> tuple[Flags, Flags]:
        """Slots of inputs that say "outside" (where the reference itself has next to none there), and bins of inputs."""
        rare, inner = np.zeros_like(self._shares, dtype=np.bool_), np.zeros_like(self._shares, dtype=np.bool_)
        for j, each in enumerate(signals):
            if each.source == "input":
                over = len(each.edges)
                inner[j, 1:over] = True
                for slot in (0, over, over + 2):
                    rare[j, slot] = self._shares[j, slot] <= RARE_SHARE
        return rare, inner

    def choose(self, values: Floats) -> list[Choice]:
        """A choice for each row of a signal matrix, shape (rows, signals), as :func:`agent.drift.signal_values` gives it."""
        slots = self._slots(values)
        self._remember(slots)
        outside = self._rare[self._columns, slots].sum(axis=1).tolist()
        over = self._over(slots).tolist()
        return [self._choice(values[i], slots[i], outside[i], over=over[i]) for i in range(len(values))]

    def _choice(self, values: Floats, slots: Slots, outside: int, *, over: bool) -> Choice:
        why: list[SampleReason] = []
        score, confidence = 0.0, None
        if self._sure is not None:
            value = float(values[self._sure])
            if np.isfinite(value):
                confidence = value if self._names_it else None
                depth = self._depth(value)
                if depth is not None:
                    why.append("low-confidence")
                    score += 1.0 + depth
        if outside:
            why.append("outside-reference")
            score += min(outside, OUTSIDE_COUNTED)
        if over:
            why.append("over-represented")
            score += 0.5
        kept = tuple(reason for reason in why if reason in self._wanted)
        if not kept:
            return Choice((), 0.0, "", confidence)
        likeness = hashlib.sha256(slots[self._alike].astype("<i4").tobytes()).hexdigest()[:16]
        return Choice(kept, score, likeness, confidence)

    def _depth(self, value: float) -> float | None:
        """How far under the limit of what counts as sure, in widths of the reference's range; None where it is sure enough."""
        if self._limit is None:
            return None
        limit, width, sign = self._limit
        if sign * value >= limit:
            return None
        return min(DEPTH_COUNTED, (limit - sign * value) / width)

    def _slots(self, values: Floats) -> Slots:
        """The slot of each value: how many edges it reaches, the last one being the last bin's."""
        with np.errstate(invalid="ignore"):
            slots: Slots = (values[:, :, None] >= self._edges).sum(axis=2)
            slots -= values == self._last
        ends = np.broadcast_to(self._ends, slots.shape)
        strange = ~np.isfinite(values)
        slots[strange] = ends[strange] + 2
        missing = values == MISSING
        slots[missing] = ends[missing] + 1
        return slots

    def _over(self, slots: Slots) -> Flags:
        """Whether a row lies in a bin that has far more of the rows seen lately than of the reference's."""
        total = float(self._seen[0].sum())
        if total < OVER_ROWS:
            return np.zeros(len(slots), dtype=np.bool_)
        lately = self._seen / total
        over = self._inner & (lately > OVER_FACTOR * self._shares) & (lately > self._shares + OVER_EXCESS)
        return np.asarray(over[self._columns, slots].any(axis=1))

    def _remember(self, slots: Slots) -> None:
        if self._seen[0].sum() >= MEMORY_ROWS:
            self._seen *= 1.0 - min(len(slots), MEMORY_ROWS) / MEMORY_ROWS
        width = self._seen.shape[1]
        places = (slots + self._columns * width).ravel()
        self._seen += np.bincount(places, minlength=self._seen.size).reshape(self._seen.shape)


def _low_limit(signal: SignalReference, share: float) -> tuple[float, float, float] | None:
    """(limit, width of the range, sign): below the limit, in the direction of ``sign``, lie ``share`` of the reference's rows.

    None where the reference has no rows. Within a bin rows are taken to lie evenly.
    """
    sign = _SURENESS[signal.summary]
    edges: Sequence[float] = signal.edges if sign > 0 else tuple(-edge for edge in reversed(signal.edges))
    counts = signal.counts if sign > 0 else tuple(reversed(signal.counts))
    width = edges[-1] - edges[0]
    left = share * sum(counts)
    if left <= 0:
        return None
    left -= counts[0]
    if left < 0:
        return edges[0], width, sign
    for lower, upper, count in zip(edges, edges[1:], counts[1:], strict=False):
        if count >= left > 0:
            return lower + (upper - lower) * left / count, width, sign
        left -= count
    return edges[-1], width, sign
