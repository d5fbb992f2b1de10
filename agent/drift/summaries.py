"""The formulas: how one number a row is taken from a tensor (:data:`agent.protocol.drift.Summary`).

Each takes a batch and gives float64 of shape (rows,): NaN or infinite where a row has no such number. No row's result
depends on the rows beside it.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.drift.views import COLOURS, Pixels, Views
from agent.protocol.drift import Layout, SignalReference, Summary

Floats = NDArray[np.float64]
Summarise = Callable[[Views], Floats]


class SummarisePicture(Protocol):
    """Summarises pictures whose axes are in the order of ``layout``."""

    def __call__(self, views: Views, layout: Layout) -> Floats: ...


PICTURE_SUMMARIES: frozenset[Summary] = frozenset(
    {"brightness", "contrast", "sharpness", "saturation", "noise"}
)
SOUND_SUMMARIES: frozenset[Summary] = frozenset({"rms", "spectral-centroid", "spectral-flatness", "clipping"})
ELEMENT_SUMMARIES: frozenset[Summary] = frozenset({"value", "category"})
"""Taken from one element of a row."""

KERNEL = 3
"""Pixels each way that ``sharpness`` and ``noise`` look at; smaller pictures have neither."""


def summary_of(
    signal: SignalReference, component: Floats | None = None, mean: Floats | None = None
) -> Summarise:
    """The formula of a signal that is not one element; ``component`` and ``mean``: for ``projection``."""
    if signal.summary in PICTURE_SUMMARIES:
        return partial(PICTURES[signal.summary], layout=signal.layout or "HW")
    if signal.summary == "clipping":
        return partial(clipping, full_scale=signal.full_scale or 1.0)
    if signal.summary == "projection" and component is not None and mean is not None:
        return partial(projection, component=component, mean=mean)
    return ROWS[signal.summary]


# Any tensor


def mean_of(views: Views) -> Floats:
    """Mean of all elements."""
    return _row_means(views.flat)


def std(views: Views) -> Floats:
    """Standard deviation of all elements."""
    flat = views.flat
    return np.sqrt(_row_means((flat - _row_means(flat)[:, None]) ** 2))


def gradient(views: Views) -> Floats:
    """Mean absolute difference of neighbours along the last two axes."""
    tensor = views.exact
    total, pairs = np.zeros(len(tensor)), 0
    for axis in range(max(1, tensor.ndim - 2), tensor.ndim):
        steps = _rows(np.abs(np.diff(tensor, axis=axis)))
        total = total + steps.sum(axis=1)
        pairs += steps.shape[1]
    # One element has no neighbour: no gradient, which is not zero.
    result: Floats = total / (pairs or np.nan)
    return result


# Pictures


def brightness(views: Views, layout: Layout) -> Floats:
    """Mean luma (ITU-R BT.601), in the units of the tensor."""
    return _row_means(_rows(views.luma(layout)))


def contrast(views: Views, layout: Layout) -> Floats:
    """RMS contrast: standard deviation of luma (Peli 1990, "Contrast in complex images")."""
    luma = _rows(views.luma(layout))
    mean = _row_means(luma)
    return np.sqrt(_row_means((luma - mean.astype(luma.dtype)[:, None]) ** 2))


def sharpness(views: Views, layout: Layout) -> Floats:
    """Variance of the four-neighbour Laplacian of luma (Pech-Pacheco et al. 2000, "Diatom autofocusing…")."""
    luma = views.luma(layout)
    if min(luma.shape[1:]) < KERNEL:
        return np.full(views.rows, np.nan)
    inner = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    around -= inner * inner.dtype.type(4)
    edges = _rows(around)
    mean = _row_means(edges)
    return _row_means((edges - mean.astype(edges.dtype)[:, None]) ** 2)


def saturation(views: Views, layout: Layout) -> Floats:
    """Mean saturation of hexcone HSV, (max - min) / max over red, green and blue (Smith 1978); black has none.

    It means something for values from 0 up, not for normalised ones of both signs.
    """
    pixels = views.pictures(layout)
    if pixels.shape[-1] < COLOURS:
        return np.full(views.rows, np.nan)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    high = np.maximum(np.maximum(red, green), blue)
    low = np.minimum(np.minimum(red, green), blue)
    lit = high > 0
    shares = np.where(lit, (high - low) / np.where(lit, high, 1), high * 0)  # NaN stays NaN
    return _row_means(_rows(shares))


def noise(views: Views, layout: Layout) -> Floats:
    """Standard deviation of noise, estimated (Immerkær 1996, "Fast noise variance estimation").

    ``sqrt(π / 2) / 6`` times the mean of ``|luma * N|`` over the inner pixels, where ``N`` is the difference of two
    Laplacians: second differences ``1 -2 1`` along both axes. Fine texture counts as noise.
    """
    luma = views.luma(layout)
    if min(luma.shape[1:]) < KERNEL:
        return np.full(views.rows, np.nan)
    two = luma.dtype.type(2)
    down = luma[:, :-2] + luma[:, 2:] - luma[:, 1:-1] * two
    both = down[:, :, :-2] + down[:, :, 2:] - down[:, :, 1:-1] * two
    result: Floats = _row_means(_rows(np.abs(both))) * (np.sqrt(np.pi / 2) / 6)
    return result


# Sound


def rms(views: Views) -> Floats:
    """Root of the mean square of all samples."""
    return np.sqrt(_row_means(views.flat**2))


def spectral_centroid(views: Views) -> Floats:
    """Mean frequency weighted by magnitude, as a share of half the sampling rate (Peeters 2004); NaN for silence."""
    magnitude = np.sqrt(views.power)
    frequencies = np.linspace(0.0, 1.0, magnitude.shape[1])
    result: Floats = (magnitude * frequencies).sum(axis=1) / magnitude.sum(axis=1)
    return result


def spectral_flatness(views: Views) -> Floats:
    """Geometric by arithmetic mean of power (Johnston 1988), without 0 Hz: 1 for noise, 0 for a tone; NaN for silence."""
    power = views.power[:, 1:]
    frequencies = power.shape[1] or np.nan
    logs = np.log(np.ascontiguousarray(power)).sum(axis=1) / frequencies
    result: Floats = np.exp(logs) / (power.sum(axis=1) / frequencies)
    return result


def clipping(views: Views, full_scale: float) -> Floats:
    """Share of samples whose magnitude reaches ``full_scale``."""
    flat = views.flat
    clipped = (np.abs(flat) >= full_scale).astype(np.float64)
    return np.where(np.isnan(flat).any(axis=1), np.nan, _row_means(clipped))


# Embeddings


def projection(views: Views, component: Floats, mean: Floats) -> Floats:
    """Scalar product with a component, shape (elements,), after the reference's mean is subtracted."""
    result: Floats = ((views.flat - mean) * component).sum(axis=1)
    return result


# Outputs


def confidence(views: Views) -> Floats:
    """Largest element."""
    flat = views.flat
    if flat.shape[1] == 0:
        return np.full(len(flat), np.nan)
    result: Floats = flat.max(axis=1)
    return result


def margin(views: Views) -> Floats:
    """Largest element less the second largest (Scheffer et al. 2001)."""
    flat = views.flat
    if flat.shape[1] < 2:  # noqa: PLR2004 - one element has no second
        return np.full(len(flat), np.nan)
    top = np.partition(flat, -2, axis=1)[:, -2:]
    # NaN is sorted last, so it takes part; two infinities leave no margin that is a number.
    result: Floats = top[:, 1] - top[:, 0]
    return result


def entropy(views: Views) -> Floats:
    """Shannon entropy in nats of each row divided by its sum; NaN where an element is negative or all are zero.

    Dividing by the sum keeps the meaning for quantised probabilities (uint8 counts of 1/256).
    """
    flat = views.flat
    total = flat.sum(axis=1)
    shares = flat / total[:, None]
    logs = np.log(np.where(shares > 0, shares, 1.0))
    found = np.maximum(-(shares * logs).sum(axis=1), 0.0)
    return np.where((flat >= 0).all(axis=1) & (total > 0), found, np.nan)


def argmax(views: Views) -> Floats:
    """Index of the largest element, the first of several."""
    flat = views.flat
    if flat.shape[1] == 0:
        return np.full(len(flat), np.nan)
    # numpy calls the first NaN the largest element; a row with one has no class.
    return np.where(np.isfinite(flat).all(axis=1), flat.argmax(axis=1).astype(np.float64), np.nan)


ROWS: dict[Summary, Summarise] = {
    "mean": mean_of,
    "std": std,
    "gradient": gradient,
    "rms": rms,
    "spectral-centroid": spectral_centroid,
    "spectral-flatness": spectral_flatness,
    "confidence": confidence,
    "margin": margin,
    "entropy": entropy,
    "argmax": argmax,
}
"""Formulas without a parameter."""

PICTURES: dict[Summary, SummarisePicture] = {
    "brightness": brightness,
    "contrast": contrast,
    "sharpness": sharpness,
    "saturation": saturation,
    "noise": noise,
}


def _rows(tensor: Pixels) -> Pixels:
    return np.ascontiguousarray(tensor).reshape(len(tensor), -1)


def _row_means(flat: Pixels) -> Floats:
    # Summed in the array's own type: a cast on the way is buffered, and where a buffer ends depends on the batch.
    result: Floats = flat.sum(axis=1).astype(np.float64) / (flat.shape[1] or np.nan)
    return result
