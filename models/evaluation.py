"""Held-out evaluation of model files: accuracy, slices, calibration, robustness, as the device would compute them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from agent.protocol.evidence import Calibration, SliceResult, VariantEvaluation
from agent.runner.backends import Backend, open_backend
from models.description import Description, VariantFile
from models.network import FloatArray, IntArray

Predict = Callable[[FloatArray], FloatArray]
"""Images (n, height, width) float32 → probabilities (n, classes) float32."""
Corrupt = Callable[[FloatArray], FloatArray]

CALIBRATION_BINS = 15


def load_variant(folder: Path, description: Description, variant: VariantFile) -> Backend:
    """Open one model file of a release folder with the device's own backend."""
    return open_backend(
        variant.runtime,
        folder / variant.filename,
        inputs=description.inputs,
        outputs=description.outputs,
        threads=1,
    )


def predictor(folder: Path, description: Description, variant: VariantFile) -> Predict:
    """One model file as a function of its only input to its first output."""
    backend = load_variant(folder, description, variant)
    source, target = description.inputs[0].name, description.outputs[0].name

    def predict(images: FloatArray) -> FloatArray:
        result: FloatArray = backend.infer({source: images})[target]
        return result

    return predict


def accuracy(probabilities: FloatArray, labels: IntArray) -> float:
    """Share of rows whose largest element is the label."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def calibration_errors(
    probabilities: FloatArray, labels: IntArray, *, bins: int = CALIBRATION_BINS
) -> Calibration:
    """Expected and maximum calibration error with equally wide bins of confidence (Guo et al. 2017, section 2).

    Args:
        probabilities: (n, classes) float32.
        labels: (n,) int64.
        bins: number of bins over [0, 1]; empty ones count for nothing.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    slot = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    rows = np.bincount(slot, minlength=bins)
    filled = rows > 0
    gaps = np.abs(np.bincount(slot, confidence, bins) - np.bincount(slot, right, bins))[filled]
    return Calibration(
        bins=bins,
        expected_calibration_error=float(gaps.sum() / len(labels)),
        maximum_calibration_error=float((gaps / rows[filled]).max()),
    )


def evaluate(
    variant: str,
    predict: Predict,
    *,
    images: FloatArray,
    labels: IntArray,
    names: tuple[str, ...],
    corruptions: Mapping[str, Corrupt],
) -> VariantEvaluation:
    """Everything that approvers read about one variant.

    Args:
        variant: its name.
        predict: the model.
        images: held-out images.
        labels: their classes, (n,) int64.
        names: class → its label in words.
        corruptions: name → what is done to the images.
    """
    probabilities = predict(images)
    slices = [
        SliceResult(
            name=f"class {name}",
            rows=int((labels == index).sum()),
            accuracy=accuracy(probabilities[labels == index], labels[labels == index]),
        )
        for index, name in enumerate(names)
    ]
    return VariantEvaluation(
        variant=variant,
        rows=len(labels),
        accuracy=accuracy(probabilities, labels),
        slices=tuple(slices),
        calibration=calibration_errors(probabilities, labels),
        robustness={name: accuracy(predict(change(images)), labels) for name, change in corruptions.items()},
    )
