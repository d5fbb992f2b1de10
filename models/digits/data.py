"""The scans, their fixed split, and what can happen to a camera: blur, darkness, noise.

Images are (n, 8, 8) float32 in 0-1 everywhere; labels are (n,) int64 in 0-9.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from models.network import FloatArray, IntArray

SIDE = 8
CLASSES = 10
LABELS = tuple(str(digit) for digit in range(CLASSES))
HELD_OUT_ROWS = 540
CALIBRATION_ROWS = 457
SPLIT_SEED = 7
LARGEST_COUNT = 16.0
"""A raw pixel counts the black pixels of a 4x4 block of the original scan: 0-16."""

PREPROCESSING = (
    "Scale a greyscale scan of one digit to 8x8 pixels by averaging blocks, ink bright on a dark ground, and "
    "divide by its largest possible value: FP32, 0 is ground and 1 is ink, row-major. scikit-learn's load_digits "
    "gives the values times 16."
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the data set."""

    images: FloatArray
    labels: IntArray

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical bytes: images as little-endian float32, then labels as little-endian int64."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images, dtype="<f4").tobytes())
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Digits:
    """The split: ``train`` makes weights, ``calibration`` makes scales, temperature and reference, ``held_out`` judges."""

    train: Part
    calibration: Part
    held_out: Part

    @property
    def digests(self) -> dict[str, str]:
        """Part's name → SHA-256 of its canonical bytes."""
        return {
            "digits-train": self.train.sha256,
            "digits-calibration": self.calibration.sha256,
            "digits-held-out": self.held_out.sha256,
        }


@cache
def load() -> Digits:
    """The 1,797 scans, split with a fixed seed, each class in the same share everywhere."""
    raw = load_digits()
    images = np.asarray(raw.images / LARGEST_COUNT, dtype=np.float32)
    labels = np.asarray(raw.target, dtype=np.int64)
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT_ROWS, random_state=SPLIT_SEED, stratify=labels
    )
    train, calibration = train_test_split(
        rest, test_size=CALIBRATION_ROWS, random_state=SPLIT_SEED, stratify=labels[rest]
    )
    parts = (Part(images=images[pick], labels=labels[pick]) for pick in (train, calibration, held_out))
    return Digits(*parts)


def held_out() -> tuple[FloatArray, IntArray]:
    """Held-out images (540, 8, 8) float32 in 0-1 and labels (540,) int64: what no training step has seen."""
    part = load().held_out
    return part.images, part.labels


def augmented(part: Part, *, copies: int, seed: int) -> Part:
    """``part`` and ``copies`` of it, each image moved by up to a pixel, with other ink and a little noise."""
    rng = np.random.default_rng(seed)
    images, labels = [part.images], [part.labels]
    for _ in range(copies):
        moved = _shifted(part.images, rng)
        ink = rng.uniform(0.85, 1.1, (len(moved), 1, 1))
        images.append(_clipped(moved * ink + rng.normal(0.0, 0.05, moved.shape)))
        labels.append(part.labels)
    return Part(images=np.concatenate(images), labels=np.concatenate(labels))


def _shifted(images: FloatArray, rng: np.random.Generator) -> FloatArray:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moves = rng.integers(0, 3, (len(images), 2))
    rows = [
        scan[down : down + SIDE, right : right + SIDE]
        for scan, (down, right) in zip(padded, moves, strict=True)
    ]
    return np.stack(rows)


def blur(images: FloatArray, *, passes: int = 1) -> FloatArray:
    """A lens out of focus: ``passes`` of the 3x3 binomial kernel [1 2 1]ᵀ[1 2 1] / 16, edges repeated."""
    for _ in range(passes):
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
        rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        images = _clipped((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4)
    return images


def darkness(images: FloatArray, *, light: float = 0.5) -> FloatArray:
    """Only the share ``light`` of the light arrives."""
    return _clipped(images * light)


def noise(images: FloatArray, *, deviation: float = 0.15, seed: int = 3) -> FloatArray:
    """Gaussian sensor noise of that standard deviation, clipped to 0-1."""
    rng = np.random.default_rng(seed)
    return _clipped(images + rng.normal(0.0, deviation, images.shape))


def dirty_lens(images: FloatArray) -> FloatArray:
    """Grease on the lens: blurred and half dark."""
    return darkness(blur(images))


CORRUPTIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "blur": blur,
    "darkness": darkness,
    "noise": noise,
    "dirty-lens": dirty_lens,
}
"""Name → corruption at the strength that the evaluation reports."""


def _clipped(images: NDArray[np.floating[Any]]) -> FloatArray:
    result: FloatArray = np.clip(images, 0.0, 1.0).astype(np.float32)
    return result
