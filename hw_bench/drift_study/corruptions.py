"""What happens to cameras and sensors, at four strengths each. Images are (n, height, width[, channels]) float32 in 0-1."""

from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.network import FloatArray

Corrupt = Callable[[FloatArray], FloatArray]
SEED = 5


def blurred(images: FloatArray, *, strength: float, passes: int) -> FloatArray:
    """A lens out of focus: the share ``strength`` of the light went through ``passes`` of the 3x3 binomial kernel."""
    soft = images
    for _ in range(passes):
        padded = np.pad(soft, ((0, 0), (1, 1), (1, 1), *((0, 0),) * (images.ndim - 3)), mode="edge")
        rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        soft = ((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4).astype(np.float32)
    return _clipped(images * (1 - strength) + soft * strength)


def noisy(images: FloatArray, *, deviation: float) -> FloatArray:
    """Gaussian sensor noise."""
    rng = np.random.default_rng(SEED)
    return _clipped(images + rng.normal(0.0, deviation, images.shape))


def darker(images: FloatArray, *, light: float) -> FloatArray:
    """The share ``light`` of the light arrives."""
    return _clipped(images * light)


class Strengths(Struct, frozen=True, kw_only=True):
    """Weak to strong: the first ones are near what a window of 300 rows can see, the last is a broken camera."""

    passes: int
    """Of the blur's kernel."""
    blur: tuple[float, ...]
    noise: tuple[float, ...]
    darkness: tuple[float, ...]


SMALL = Strengths(
    passes=1, blur=(0.02, 0.05, 0.25, 1.0), noise=(0.02, 0.04, 0.1, 0.3), darkness=(0.02, 0.04, 0.2, 0.5)
)
"""For scans of 8x8 pixels."""

PHOTOS = Strengths(
    passes=2, blur=(0.15, 0.25, 0.5, 1.0), noise=(0.015, 0.02, 0.05, 0.15), darkness=(0.08, 0.12, 0.3, 0.5)
)


def image_corruptions(strengths: Strengths) -> dict[str, dict[str, Corrupt]]:
    """Kind → strength in words → what is done."""

    def blur(share: float) -> Corrupt:
        return lambda images: blurred(images, strength=share, passes=strengths.passes)

    def noise(deviation: float) -> Corrupt:
        return lambda images: noisy(images, deviation=deviation)

    def darkness(share: float) -> Corrupt:
        return lambda images: darker(images, light=1 - share)

    return {
        "blur": {f"{share:.0%} blurred": blur(share) for share in strengths.blur},
        "noise": {f"deviation {deviation}": noise(deviation) for deviation in strengths.noise},
        "darkness": {f"{share:.0%} darker": darkness(share) for share in strengths.darkness},
    }


CLASS_WEIGHTS = {"1.5 times": 1.5, "2 times": 2.0, "4 times": 4.0, "8 times": 8.0}
"""How often one class comes, against before."""


def _clipped(images: NDArray[np.floating[Any]]) -> FloatArray:
    result: FloatArray = np.clip(images, 0.0, 1.0).astype(np.float32)
    return result
