"""The teacher: scikit-learn's multi-layer perceptron, calibrated, written as ONNX fp32."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from models.description import Description, VariantFile
from models.digits import data
from models.digits.release import describe, finish, rows_of
from models.network import Dense, FloatArray, Network, fit_temperature
from models.onnx_file import OPSET, write_onnx

HIDDEN = (256, 128)
COPIES = 20
EPOCHS = 30
SMALLEST_WEIGHT = 1e-9
"""Weight decay leaves denormals, on which x86 computes 4 to 40 times slower; they are written as zero."""

VARIANT = VariantFile(
    name="onnx-fp32",
    runtime="onnx",
    precision="fp32",
    filename="digits-fp32.onnx",
    opset=OPSET,
    minimum_runtime="onnxruntime 1.22",
)


def train() -> Network:
    """Train on the train part (with augmentation) and fit the temperature on the calibration part."""
    digits = data.load()
    part = data.augmented(digits.train, copies=COPIES, seed=1)
    classifier = MLPClassifier(HIDDEN, alpha=1e-2, batch_size=256, max_iter=EPOCHS, random_state=0)
    # One thread: small products are slower on two, and their sums depend on how many there are.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # A fixed number of epochs is the recipe; "not converged yet" is what it means to stop there.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(rows_of(part.images), part.labels)
    layers = [
        Dense(weight=_float32(weight), bias=_float32(bias))
        for weight, bias in zip(classifier.coefs_, classifier.intercepts_, strict=True)
    ]
    network = Network(tuple(layers))
    logits = network.logits(rows_of(digits.calibration.images))
    return network.cooled(fit_temperature(logits, digits.calibration.labels))


def make_teacher(folder: Path) -> Description:
    """Train the teacher and write its whole release folder except the bench and the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    network = train()
    (folder / VARIANT.filename).write_bytes(write_onnx(network, side=data.SIDE))
    description = describe(
        variants=(VARIANT,),
        summary=(
            f"Teacher: a multi-layer perceptron {network.widths} ({network.parameters:,} parameters) in fp32, "
            "trained on augmented 8x8 scans and calibrated by temperature."
        ),
        recipe="python -m models digits teacher --out DIR",
        golden_tolerance=1e-3,
    )
    finish(folder, description)
    return description


def _float32(values: FloatArray) -> FloatArray:
    result: FloatArray = np.where(np.abs(values) < SMALLEST_WEIGHT, 0, values).astype(np.float32)
    return result
