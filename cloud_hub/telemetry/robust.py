"""Which devices stand apart from the fleet, and a merge in which none has more say than a usual one.

Counts of several devices in one array of shape (devices, signals, slots), float64; the slots of a signal are its counts
(under, the bins, over), missing, not finite and withheld, padded with zeros; they add up to the device's rows.

The centre of the fleet is the coordinate-wise median of the devices' shares: fewer than half of them, whatever they
claim, can't carry it away. How far a device stands from it is Hellinger's distance, less what chance alone makes of
its number of rows. A device is left out where, in some signal, that distance is both large in itself
(:data:`LEAST_DISTANCE`) and large beside the distances of the others (:data:`SCORE` times their median absolute
deviation, taken as a standard deviation). The cap makes rows claimed worth nothing beyond the median device's.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEWEST_DEVICES = 5
"""Below it nobody can be said to stand apart: of four, two that agree may be the sick ones."""

LEAST_DISTANCE = 0.15
"""Hellinger's distance (0 to 1) below which a device never stands apart: near PSI 0.18."""

SCORE = 6.0
"""Robust standard deviations over the median distance from which a device stands apart."""

SMALLEST_SPREAD = 0.02
"""Of distances: in a fleet whose devices are all alike nobody stands apart by a hair."""

CHANCE = 6.0
"""Standard deviations of what chance makes of a device's own rows, which its squared distance must exceed. One with so few
rows that it never can has no say to speak of."""

MAD_TO_DEVIATION = 1.4826
"""Median absolute deviation of a normal distribution → its standard deviation."""

BREAKDOWN = 1 / 3
"""Share of the devices that may be hostile or broken, and still not turn the fleet's verdict."""


class Standing(Struct, frozen=True, kw_only=True):
    """Where the devices stand; arrays by device, in the order that they came in."""

    apart: Flags
    signal: NDArray[np.int64]
    """The signal in which each stands out most."""
    distance: Floats
    """In that signal, from the centre, less chance."""
    usual: Floats
    """Median of the devices' distances in that signal."""
    score: Floats
    """Robust standard deviations over it."""


def standing(counts: Floats) -> Standing:
    """Measure every device against the others. ``counts``: (devices, signals, slots), without what is withheld."""
    told = counts.sum(axis=2)
    shares = counts / np.maximum(told, 1.0)[:, :, None]
    centre = _centre(shares)
    used = np.maximum((centre > 0).sum(axis=1), 2)
    eighth = 8.0 * np.maximum(told, 0.01)  # of whom nothing is told, everything is chance
    chance = (used - 1)[None, :] / eighth
    deviation = np.sqrt(2.0 * (used - 1))[None, :] / eighth
    squared = _hellinger_squared(shares, centre)
    distance = np.sqrt(np.maximum(squared - chance, 0.0))
    usual = np.median(distance, axis=0)
    spread = np.maximum(MAD_TO_DEVIATION * np.median(np.abs(distance - usual), axis=0), SMALLEST_SPREAD)
    score = (distance - usual) / spread
    out = (score > SCORE) & (distance > LEAST_DISTANCE) & (squared > chance + CHANCE * deviation)
    ranked = np.where(out, score + score.max(initial=0.0) + 1.0, score)  # what left it out is what is told
    worst = ranked.argmax(axis=1)
    every = np.arange(len(counts))
    return Standing(
        apart=out.any(axis=1) & (len(counts) >= FEWEST_DEVICES),
        signal=worst.astype(np.int64),
        distance=distance[every, worst],
        usual=usual[worst],
        score=score[every, worst],
    )


def _centre(shares: Floats) -> Floats:
    """Median of each slot over the devices, made to add up to 1 a signal; shape (signals, slots)."""
    median = np.median(shares, axis=0)
    total = median.sum(axis=1, keepdims=True)
    mean = shares.mean(axis=0)  # where every slot's median is 0 the devices share nothing
    result: Floats = np.where(total > 0, median / np.where(total > 0, total, 1.0), mean)
    return result


def _hellinger_squared(shares: Floats, centre: Floats) -> Floats:
    """1 - Σ √(p q), by device and signal."""
    affinity = np.einsum("dsk,sk->ds", np.sqrt(shares), np.sqrt(centre))
    result: Floats = np.clip(1.0 - affinity, 0.0, 1.0)
    return result


def cap_rows(rows: Floats) -> int:
    """What a device may bring into the merge at most: the median device's rows. ``rows``: (devices,), at least one."""
    return max(1, int(np.median(rows)))


def capped(counts: Floats, rows: Floats, cap: int) -> Floats:
    """Counts of devices with more rows than ``cap``, scaled down to it; whole numbers that add up to it.

    The largest remainders get what rounding down leaves over.
    """
    over = rows > cap
    result = counts.copy()
    if not over.any():
        return result
    exact = counts[over] * (cap / rows[over])[:, None, None]
    whole = np.floor(exact)
    left = np.maximum(cap - whole.sum(axis=2), 0.0)
    order = np.argsort(whole - exact, axis=2, kind="stable")  # largest remainder first
    rank = np.argsort(order, axis=2, kind="stable")
    result[over] = whole + (rank < left[:, :, None])
    return result
