"""How often the model is right, estimated without labels, from its own confidences (CBPE).

The signed reference says how often the model was right in each slot of its confidence (:class:`Calibration`). A window
has counts of the same slots, so the estimate is a weighted mean: it needs nothing but counts, and is the same function
for one window on a device, for a day, and for a fleet. It holds as long as an answer of the same confidence is right as
often as it was on the labelled data. Where that can't be expected there is no estimate, but a reason.
"""

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from statistics import NormalDist

from msgspec import Struct

from agent.protocol.drift import (
    AccuracyEstimate,
    DriftReference,
    SignalCounts,
    SignalReference,
)

LEVEL = 0.95
"""Of the interval: so often it holds the window's real accuracy, where the assumption holds."""

CLAIM_ROWS = 2.0
"""A slot's share of right answers starts at the confidence itself, which counts as much as so many labelled rows."""

MINIMUM_ROWS = 30
"""Rows with a confidence below which nothing is estimated."""

MAXIMUM_ABSENT = 0.1
"""Share of a window's rows without a confidence beyond which there is no estimate."""

MAXIMUM_REACH = 0.2
"""Where the interval reaches further than this from the estimate, to either side, nothing is known that is of use."""

FEW_LABELS = 10
"""Slots with fewer labelled rows are what makes an interval wide; the reason counts the rows that lie in them."""

DECIMALS = 5
"""Of what is said: more are noise, and cost bytes in every record."""


class Estimate(Struct, frozen=True, kw_only=True):
    """Either a number with its interval, or why there is none."""

    estimate: AccuracyEstimate | None = None
    off: str | None = None


class Estimator:
    """:func:`estimate_accuracy` for one reference, whose shares are computed once."""

    def __init__(self, reference: DriftReference) -> None:
        self._calibration = reference.calibration
        if self._calibration is None:
            return
        signal = next(item for item in reference.signals if item.name == self._calibration.signal)
        self._shares = slot_shares(signal, self._calibration.rows, self._calibration.correct)
        self._likely = [
            _likely(share, rows) for share, rows in zip(self._shares, self._calibration.rows, strict=True)
        ]
        self._deviations = [
            math.sqrt(likely * (1 - likely) / (rows + CLAIM_ROWS + 2))
            for likely, rows in zip(self._likely, self._calibration.rows, strict=True)
        ]
        self._bare = [rows < FEW_LABELS for rows in self._calibration.rows]

    def estimate(self, counts: Mapping[str, SignalCounts]) -> Estimate:
        """See :func:`estimate_accuracy`."""
        calibration = self._calibration
        if calibration is None:
            return Estimate(
                off="The reference was made without labels, so the confidences have no calibration."
            )
        if calibration.problem is not None:
            return Estimate(off=calibration.problem)
        found = counts[calibration.signal]
        rows, absent = sum(found.counts), found.missing + found.not_finite
        if rows < MINIMUM_ROWS:
            return Estimate(off=f"{rows} rows have a confidence, at least {MINIMUM_ROWS} are needed.")
        if absent > MAXIMUM_ABSENT * (rows + absent):
            return Estimate(
                off=f"{absent / (rows + absent):.0%} of the rows have no confidence, at most {MAXIMUM_ABSENT:.0%} may lack it."
            )
        estimate = self._interval(found.counts, rows)
        reach = max(estimate.high - estimate.accuracy, estimate.accuracy - estimate.low)
        if reach > MAXIMUM_REACH:
            bare = sum(count for count, bare in zip(found.counts, self._bare, strict=True) if bare)
            return Estimate(
                off=f"It would be known to ±{reach:.2f} only, at most ±{MAXIMUM_REACH} is of use: {bare / rows:.0%} of the rows "
                f"have confidences of which the reference has fewer than {FEW_LABELS} labelled rows."
            )
        return Estimate(estimate=estimate)

    def _interval(self, counts: Sequence[int], rows: int) -> AccuracyEstimate:
        """Wilson's interval at the size of sample that has the same variance.

        Two things vary: how many of these rows are right (binomial in each slot), and the slots' shares themselves,
        which are known from so many labelled rows and no more. The second part stays however many windows are merged,
        and its slots are taken to err all to the same side, as they do when inputs change (docs/accuracy.md).
        """
        accuracy = sum(map(operator.mul, counts, self._shares)) / rows
        likely = sum(map(operator.mul, counts, self._likely)) / rows
        chance = (
            sum(count * share * (1 - share) for count, share in zip(counts, self._likely, strict=True))
            / rows**2
        )
        calibration = sum(map(operator.mul, counts, self._deviations)) / rows
        size = likely * (1 - likely) / (chance + calibration**2)
        low, high = wilson(accuracy, size, LEVEL)
        return AccuracyEstimate(
            accuracy=round(accuracy, DECIMALS),
            low=round(low, DECIMALS),
            high=round(high, DECIMALS),
            level=LEVEL,
            rows=rows,
        )


def estimate_accuracy(reference: DriftReference, counts: Mapping[str, SignalCounts]) -> Estimate:
    """Estimate the accuracy on a window, or on windows merged over time and devices.

    ``counts`` must have passed :func:`agent.drift.check_counts`.
    """
    return Estimator(reference).estimate(counts)


def slot_shares(signal: SignalReference, rows: Sequence[int], correct: Sequence[int]) -> list[float]:
    """Share of right answers in each slot of the confidence, shape (bins + 2,).

    The posterior mean of a beta distribution that starts at what the confidence claims (:data:`CLAIM_ROWS`): a slot with
    many labelled rows says what they say, a slot with few leans on the model.
    """
    claims = _claims(signal.edges, sum(correct) / max(sum(rows), 1))
    return [
        (right + CLAIM_ROWS * claim) / (count + CLAIM_ROWS)
        for right, count, claim in zip(correct, rows, claims, strict=True)
    ]


def _likely(share: float, rows: int) -> float:
    """A slot's share for its uncertainty alone: half a right and half a wrong row are added (Jeffreys).

    A slot in which nobody has seen a wrong answer, or which claims to be sure and has no labels, is not known to be perfect.
    """
    known = rows + CLAIM_ROWS
    return (share * known + 0.5) / (known + 1)


def _claims(edges: Sequence[float], accuracy: float) -> list[float]:
    """The middle of each slot, where confidences are probabilities; else (integers, say) they claim nothing by themselves."""
    if edges[0] < 0 or edges[-1] > 1:
        return [accuracy] * (len(edges) + 1)
    ends = [edges[0], *edges, edges[-1]]
    return [(left + right) / 2 for left, right in itertools.pairwise(ends)]


def wilson(share: float, rows: float, level: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share, which stays in 0-1 and holds its level near both ends."""
    square = _score(level) ** 2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = (
        _score(level)
        * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows))
        / (1 + square / rows)
    )
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def _score(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
