"""Statistics of counts against reference counts: arrays in, arrays out.

Matrices have shape (signals, bins), float64, ``bins`` counting under and over; a signal with fewer bins is padded
with zeros, which changes none of the statistics, because a bin that is empty on both sides says nothing.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PSEUDO_COUNT = 0.5
"""Added to every bin that is empty on one side only (Jeffreys), so that PSI stays finite."""

MINIMUM_EXPECTED = 5.0
"""Categories with a smaller expected count are pooled (Cochran's rule for the chi-squared approximation)."""


class Sides(NamedTuple):
    """A window and its reference, with what several statistics need of them; made by :func:`sides`."""

    counts: Floats
    reference: Floats
    p: Floats
    """Shares of the window."""
    q: Floats
    """Shares of the reference."""
    known: NDArray[np.bool_]
    """Shape (signals,): both sides have rows. Where they have not, every statistic is 0."""


def sides(counts: Floats, reference: Floats) -> Sides:
    """Two matrices of counts, laid side by side."""
    rows, reference_rows = counts.sum(axis=1, keepdims=True), reference.sum(axis=1, keepdims=True)
    return Sides(
        counts=counts,
        reference=reference,
        p=counts / np.maximum(rows, 1.0),
        q=reference / np.maximum(reference_rows, 1.0),
        known=((rows > 0) & (reference_rows > 0))[:, 0],
    )


def population_stability(pair: Sides) -> Floats:
    """PSI of each signal, shape (signals,): sum of (p - q) ln(p / q) over the bins (Siddiqi 2006).

    ``p`` and ``q`` are shares after :data:`PSEUDO_COUNT` was added to every bin that is not empty on both sides.
    """
    used = (pair.counts + pair.reference) > 0
    smoothed = np.where(used, pair.counts + PSEUDO_COUNT, 0.0)
    smoothed_reference = np.where(used, pair.reference + PSEUDO_COUNT, 0.0)
    p, q = shares(smoothed), shares(smoothed_reference)
    terms = (p - q) * np.log(np.where(used, p, 1.0) / np.where(used, q, 1.0))
    return np.where(pair.known, terms.sum(axis=1), 0.0)


def jensen_shannon(pair: Sides) -> Floats:
    """Jensen-Shannon distance of each signal, base 2, shape (signals,): 0 to 1, 1 where no bin is shared.

    The root of the mean of both Kullback-Leibler divergences from the mixture (Lin 1991; a metric by Endres &
    Schindelin 2003). Empty bins need no pseudo-count.
    """
    mixture = (pair.p + pair.q) / 2
    terms = _entropy_terms(pair.p, mixture) + _entropy_terms(pair.q, mixture)
    return np.where(pair.known, np.sqrt(np.clip(terms.sum(axis=1) / 2, 0.0, 1.0)), 0.0)


def _entropy_terms(p: Floats, mixture: Floats) -> Floats:
    return p * np.log2(np.where(p > 0, p, 1.0) / np.where(p > 0, mixture, 1.0))


def bin_positions(edges: Sequence[Sequence[float]]) -> Floats:
    """Where the rows of each bin are taken to be, shape (signals, bins), in widths of the signal's own range.

    A bin's rows stand at its centre; those under the first edge or over the last one stand at that edge. So a
    distance of rows outside the range is a lower bound. Padding stands at the last edge.
    """
    width = max(len(one) for one in edges) + 1
    positions = np.ones((len(edges), width))
    for row, one in enumerate(edges):
        exact = np.array(one, dtype=np.float64)
        # Halved, so that edges of both signs near the largest float do not overflow.
        halves = exact / 2
        places = (halves - halves[0]) / (halves[-1] - halves[0])
        positions[row, : len(one) + 1] = [0.0, *((places[:-1] + places[1:]) / 2).tolist(), 1.0]
    return positions


def wasserstein(pair: Sides, positions: Floats) -> Floats:
    """Wasserstein-1 distance of each signal in standard deviations of its reference, shape (signals,).

    The area between both cumulative distributions over ``positions`` (:func:`bin_positions`), divided by the standard
    deviation of the reference at the same positions, or by the range of the bins where the reference has none. It is
    not symmetric, because the scale is the reference's.
    """
    apart = np.abs(np.cumsum(pair.p - pair.q, axis=1))[:, :-1]
    area = (apart * np.diff(positions, axis=1)).sum(axis=1)
    mean = (pair.q * positions).sum(axis=1, keepdims=True)
    deviation = np.sqrt((pair.q * (positions - mean) ** 2).sum(axis=1))
    return np.where(pair.known, area / np.where(deviation > SMALLEST_DEVIATION, deviation, 1.0), 0.0)


SMALLEST_DEVIATION = 1e-9
"""In widths of the range: under it the reference counts as constant."""


def kolmogorov_smirnov(pair: Sides) -> Floats:
    """Two-sample KS statistic at the bin edges, shape (signals,): a lower bound of the one on raw values."""
    distance = np.abs(np.cumsum(pair.p - pair.q, axis=1))
    return np.where(pair.known, np.clip(distance.max(axis=1, initial=0.0), 0.0, 1.0), 0.0)


def ks_p_values(statistic: Floats, rows: Floats, reference_rows: Floats) -> Floats:
    """Asymptotic p-values of two-sample KS statistics, all of one shape; conservative on binned values.

    Kolmogorov's distribution at ``(√n + 0.12 + 0.11 / √n) D`` with ``n = rows · reference_rows / (rows +
    reference_rows)`` (Stephens 1970, "Use of the Kolmogorov-Smirnov… without extensive tables"). 1 where a side has
    no rows.
    """
    total = rows + reference_rows
    root = np.sqrt(rows * (reference_rows / np.where(total > 0, total, 1.0)))
    root = np.where(root > 0, root, 1.0)
    survival = kolmogorov_survival((root + 0.12 + 0.11 / root) * statistic)
    return np.where((rows > 0) & (reference_rows > 0), survival, 1.0)


KOLMOGOROV_CROSSING = 1.18
"""Where the two series of Kolmogorov's distribution converge equally fast."""

KOLMOGOROV_SMALLEST = 0.1
"""Below it the survival differs from 1 by less than 1e-50."""

_J = np.arange(1.0, 6.0)[:, None]


def kolmogorov_survival(x: Floats) -> Floats:
    """P(K > x) of Kolmogorov's distribution, same shape: by the series that converges fast at each ``x``."""
    low = np.clip(x, KOLMOGOROV_SMALLEST, KOLMOGOROV_CROSSING)
    tails = np.exp(-((2 * _J - 1) ** 2) * np.pi**2 / (8 * low * low))
    below = np.sqrt(2 * np.pi) / low * tails.sum(axis=0)
    above = 2 * ((-1) ** (_J - 1) * np.exp(-2 * _J * _J * x * x)).sum(axis=0)
    survival: Floats = np.clip(np.where(x < KOLMOGOROV_CROSSING, 1.0 - below, above), 0.0, 1.0)
    return survival


def chi_squared(counts: Floats, reference: Floats) -> tuple[Floats, Ints]:
    """Pearson's two-sample statistic and its degrees of freedom, each of shape (signals,).

    Bins with an expected count under :data:`MINIMUM_EXPECTED` on the smaller side are pooled. Both are 0 where a side
    is empty or fewer than two bins remain.
    """
    rows, reference_rows = counts.sum(axis=1), reference.sum(axis=1)
    total = np.where(rows + reference_rows > 0, rows + reference_rows, 1.0)
    share = (counts + reference) / total[:, None]
    rare = share * np.minimum(rows, reference_rows)[:, None] < MINIMUM_EXPECTED
    found, known = _pooled(counts, rare), _pooled(reference, rare)
    both = found + known
    # In shares of each side, which neither overflow nor cancel: (f - e)² / e over both sides is this.
    expected = np.where(both > 0, both, 1.0)
    difference = found * _part(reference_rows, total) - known * _part(rows, total)
    weight = (total / np.where(rows > 0, rows, 1.0)) * (
        total / np.where(reference_rows > 0, reference_rows, 1.0)
    )
    statistic = (difference**2 / expected).sum(axis=1) * weight
    degrees = (both > 0).sum(axis=1) - 1
    usable = (rows > 0) & (reference_rows > 0) & (degrees > 0)
    return np.where(usable, statistic, 0.0), np.where(usable, degrees, 0)


def _part(rows: Floats, total: Floats) -> Floats:
    part: Floats = (rows / total)[:, None]
    return part


def _pooled(counts: Floats, rare: NDArray[np.bool_]) -> Floats:
    """The counts without rare bins, and a last column that holds them all."""
    kept = np.where(rare, 0.0, counts)
    pool = np.where(rare, counts, 0.0).sum(axis=1, keepdims=True)
    return np.concatenate([kept, pool], axis=1)


def chi_squared_p_values(counts: Floats, reference: Floats) -> Floats:
    """p-values, shape (signals,), of Pearson's test that both sides share one distribution; 1 where it says nothing."""
    statistic, degrees = chi_squared(counts, reference)
    pairs = zip(statistic.tolist(), degrees.tolist(), strict=True)
    return np.array([chi_squared_survival(value, free) if free else 1.0 for value, free in pairs])


def chi_squared_survival(statistic: float, degrees: int) -> float:
    """P(X > statistic) of the chi-squared distribution: the regularised upper incomplete gamma function.

    The closed finite sums for whole and half shape (Abramowitz & Stegun 26.4.4, 26.4.5).
    """
    half = statistic / 2
    if half <= 0:
        return 1.0
    if degrees % 2 == 0:
        total, shape = 0.0, 0.0
        terms = degrees // 2
    else:
        total, shape = math.erfc(math.sqrt(half)), 0.5
        terms = (degrees - 1) // 2
    for _ in range(terms):
        total += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(1.0, total)


def excess_p_values(counts: Floats, rows: float, reference_counts: Floats, reference_rows: float) -> Floats:
    """One-sided p-values that shares grew: two-proportion z-test with the pooled share (Fleiss 1981, section 2.3).

    ``counts`` and ``reference_counts`` have one shape, and so has the result; 1 where nothing can be compared.
    """
    if rows <= 0 or reference_rows <= 0:
        return np.ones_like(counts)
    pooled = (counts + reference_counts) / (rows + reference_rows)
    variance = np.maximum(pooled * (1 - pooled), 0.0) * (1 / rows + 1 / reference_rows)
    difference = counts / rows - reference_counts / reference_rows
    scores = difference / np.sqrt(np.where(variance > 0, 2 * variance, 1.0))
    p_values = np.array([0.5 * math.erfc(score) for score in scores.ravel().tolist()])
    return np.where(variance > 0, p_values.reshape(scores.shape), 1.0)


def benjamini_hochberg(p_values: Floats) -> Floats:
    """Adjusted p-values, same shape and order (Benjamini & Hochberg 1995).

    Rejecting those under alpha keeps the false discovery rate at alpha.
    """
    size = len(p_values)
    if size == 0:
        return p_values
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * (size / np.arange(1, size + 1))
    adjusted = np.empty(size, dtype=np.float64)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(adjusted, 1.0)


def shares(counts: Floats) -> Floats:
    """Each row divided by its sum; zeros where the sum is zero."""
    total = counts.sum(axis=1, keepdims=True)
    result: Floats = counts / np.where(total > 0, total, 1.0)
    return result
