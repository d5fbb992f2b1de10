"""Statistics of counts against reference counts: arrays in, arrays out.

Matrices have shape (signals, bins), float64, ``bins`` counting under and over; a signal with fewer bins is padded
with zeros, which changes none of the statistics, because a bin that is empty on both sides says nothing.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PSEUDO_COUNT = 0.5
"""Added to every bin that is empty on one side only (Jeffreys), so that PSI stays finite."""

MINIMUM_EXPECTED = 5.0
"""Categories with a smaller expected count are pooled (Cochran's rule for the chi-squared approximation)."""


def population_stability(counts: Floats, reference: Floats) -> Floats:
    """PSI of each signal, shape (signals,): sum of (p - q) ln(p / q) over the bins (Siddiqi 2006).

    ``p`` and ``q`` are shares after :data:`PSEUDO_COUNT` was added to every bin that is not empty on both sides.
    0 where a side has no rows at all.
    """
    used = (counts + reference) > 0
    smoothed = np.where(used, counts + PSEUDO_COUNT, 0.0)
    smoothed_reference = np.where(used, reference + PSEUDO_COUNT, 0.0)
    p, q = shares(smoothed), shares(smoothed_reference)
    terms = (p - q) * (np.log(np.where(used, p, 1.0)) - np.log(np.where(used, q, 1.0)))
    known = (counts.sum(axis=1) > 0) & (reference.sum(axis=1) > 0)
    return np.where(known, terms.sum(axis=1), 0.0)


def kolmogorov_smirnov(counts: Floats, reference: Floats) -> Floats:
    """Two-sample KS statistic at the bin edges, shape (signals,): a lower bound of the one on raw values."""
    distance = np.abs(np.cumsum(shares(counts), axis=1) - np.cumsum(shares(reference), axis=1))
    known = (counts.sum(axis=1) > 0) & (reference.sum(axis=1) > 0)
    return np.where(known, np.clip(distance.max(axis=1, initial=0.0), 0.0, 1.0), 0.0)


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


def chi_squared_p_value(counts: Floats, reference: Floats) -> float:
    """p-value of Pearson's test that two vectors of counts, shape (categories,), share one distribution.

    Categories with an expected count under :data:`MINIMUM_EXPECTED` are pooled. 1 where a side is empty or
    fewer than two categories remain.
    """
    rows, reference_rows = float(counts.sum()), float(reference.sum())
    if rows <= 0 or reference_rows <= 0:
        return 1.0
    share = (counts + reference) / (rows + reference_rows)
    rare = share * min(rows, reference_rows) < MINIMUM_EXPECTED
    table = np.stack([_pooled(counts, rare), _pooled(reference, rare)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:  # noqa: PLR2004 - one category can't differ
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * (table.sum(axis=0) / table.sum())
    statistic = float(((table - expected) ** 2 / expected).sum())
    return chi_squared_survival(statistic, table.shape[1] - 1)


def _pooled(counts: Floats, rare: NDArray[np.bool_]) -> Floats:
    return np.append(counts[~rare], counts[rare].sum())


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
    p_values = np.array([0.5 * math.erfc(score) for score in scores.tolist()])
    return np.where(variance > 0, p_values, 1.0)


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
