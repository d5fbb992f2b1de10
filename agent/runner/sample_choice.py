"""How informative a row is, by the release's own reference: no threshold has to be set for a model (pure)."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.protocol.drift import DriftReference, SignalReference
from agent.protocol.samples import SamplePolicy, SampleReason

Floats = NDArray[np.float64]
Slots = NDArray[np.intp]

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
    """Scores rows by their signals; remembers what it saw lately."""

    def __init__(self, reference: DriftReference, policy: SamplePolicy) -> None:
        signals = reference.signals
        self._signals = signals
        self._wanted = frozenset(policy.reasons)
        self._sure = next((j for j, each in enumerate(signals) if each.summary in _SURENESS), None)
        self._limit = (
            None if self._sure is None else _low_limit(signals[self._sure], policy.low_confidence_share)
        )
        self._inputs = [j for j, each in enumerate(signals) if each.source == "input"]
        alike = [j for j, each in enumerate(signals) if each.summary not in _SURENESS]
        self._alike = alike or list(range(len(signals)))
        self._shares = [_shares(each) for each in signals]
        self._seen = [np.zeros(len(share)) for share in self._shares]

    def choose(self, values: Floats) -> list[Choice]:
        """A choice for each row of a signal matrix, shape (rows, signals), NaN where a row does not have the signal."""
        slots = np.stack([_slots(each, values[:, j]) for j, each in enumerate(self._signals)], axis=1)
        self._remember(slots)
        outside = self._outside(slots)
        over = self._over(slots)
        return [
            self._choice(values[i], slots[i], int(outside[i]), over=bool(over[i])) for i in range(len(values))
        ]

    def _choice(self, values: Floats, slots: Slots, outside: int, *, over: bool) -> Choice:
        why: list[SampleReason] = []
        score, confidence = 0.0, None
        if self._sure is not None:
            value = float(values[self._sure])
            if np.isfinite(value):
                confidence = value
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
        likeness = hashlib.sha256(slots[self._alike].astype("<i4").tobytes()).hexdigest()[:16]
        return Choice(kept, score if kept else 0.0, likeness, confidence)

    def _depth(self, value: float) -> float | None:
        """How far under the limit of what counts as sure, in widths of the reference's range; None where it is sure enough."""
        if self._limit is None:
            return None
        limit, width, sign = self._limit
        if sign * value >= limit:
            return None
        return min(DEPTH_COUNTED, (limit - sign * value) / width)

    def _outside(self, slots: Slots) -> NDArray[np.intp]:
        """How many monitored input values of each row lie outside the reference, or are no numbers."""
        found = np.zeros(len(slots), dtype=np.intp)
        for j in self._inputs:
            share = self._shares[j]
            last = len(share) - 1  # … bins, over, missing, not finite
            for slot in (0, last - 2, last):
                if share[slot] <= RARE_SHARE:
                    found += slots[:, j] == slot
        return found

    def _over(self, slots: Slots) -> NDArray[np.bool_]:
        found = np.zeros(len(slots), dtype=np.bool_)
        for j in self._inputs:
            seen, share = self._seen[j], self._shares[j]
            total = float(seen.sum())
            if total < OVER_ROWS:
                continue
            lately = seen / total
            over = (lately > OVER_FACTOR * share) & (lately > share + OVER_EXCESS)
            over[[0, -3, -2, -1]] = False  # said by "outside"
            if over.any():
                found |= over[slots[:, j]]
        return found

    def _remember(self, slots: Slots) -> None:
        fade = 1.0 - min(len(slots), MEMORY_ROWS) / MEMORY_ROWS
        for j, before in enumerate(self._seen):
            kept = before * fade if before.sum() >= MEMORY_ROWS else before
            self._seen[j] = kept + np.bincount(slots[:, j], minlength=len(before))


def _slots(signal: SignalReference, values: Floats) -> Slots:
    """Under 0, the bins, over, then missing, then not finite."""
    edges = np.array(signal.edges)
    slots: Slots = np.searchsorted(edges, values, side="right")
    over = len(edges)
    slots[values == edges[-1]] = over - 1
    if signal.categories is not None:
        slots[~np.isin(values, np.arange(len(signal.categories)))] = over
    if signal.missing_value is not None:
        slots[values == signal.missing_value] = over + 1
    slots[~np.isfinite(values)] = over + 2
    return slots


def _shares(signal: SignalReference) -> Floats:
    counts = np.array([*signal.counts, signal.missing, signal.not_finite], dtype=np.float64)
    shares: Floats = counts / max(float(counts.sum()), 1.0)
    return shares


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
