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


def ks_p_value(statistic: float, rows: float, reference_rows: float) -> float:
    """Asymptotic p-value of a two-sample KS statistic; conservative on binned values.

    Kolmogorov's distribution at ``(√n + 0.12 + 0.11 / √n) D`` with ``n = rows · reference_rows / (rows +
    reference_rows)`` (Stephens 1970, "Use of the Kolmogorov-Smirnov… without extensive tables").
    """
    if rows <= 0 or reference_rows <= 0 or statistic <= 0:
        return 1.0
    root = math.sqrt(rows * (reference_rows / (rows + reference_rows)))
    return kolmogorov_survival((root + 0.12 + 0.11 / root) * statistic)


def kolmogorov_survival(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution, by the series that converges fast on either side of 1.18."""
    if x < 0.1:  # noqa: PLR2004 - below it the survival differs from 1 by less than 1e-50
        return 1.0
    if x < 1.18:  # noqa: PLR2004 - the crossing point of the two series
        terms = (math.exp(-((2 * j - 1) ** 2) * math.pi**2 / (8 * x * x)) for j in range(1, 6))
        return max(0.0, 1.0 - math.sqrt(2 * math.pi) / x * sum(terms))
    return min(1.0, 2 * sum((-1.0) ** (j - 1) * math.exp(-2 * j * j * x * x) for j in range(1, 6)))


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


def excess_p_value(count: float, rows: float, reference_count: float, reference_rows: float) -> float:
    """One-sided p-value that a share grew: two-proportion z-test with the pooled share (Fleiss 1981, §2.3)."""
    if rows <= 0 or reference_rows <= 0:
        return 1.0
    pooled = (count + reference_count) / (rows + reference_rows)
    spread = math.sqrt(max(0.0, pooled * (1 - pooled)) * (1 / rows + 1 / reference_rows))
    difference = count / rows - reference_count / reference_rows
    if spread == 0:
        return 1.0
    return 0.5 * math.erfc(difference / spread / math.sqrt(2))


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
