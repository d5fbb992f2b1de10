"""What teacher and student share: description, golden vectors, drift reference, evaluation and card."""

from pathlib import Path

import numpy as np

from agent.drift import encode_reference
from agent.protocol.drift import DriftReference
from agent.protocol.evidence import Evaluation
from agent.protocol.manifest import Parent, TensorSpec
from models.description import (
    CARD_FILENAME,
    DESCRIPTION_FILENAME,
    EVALUATION_FILENAME,
    GOLDEN_FILENAME,
    REFERENCE_FILENAME,
    Description,
    VariantFile,
    code_version,
    package_versions,
    write_json,
)
from models.digits import data
from models.digits.card import render_card
from models.evaluation import Predict, evaluate, predictor
from models.golden import choose_rows, golden_vectors
from models.network import FloatArray
from models.onnx_file import INPUT, OUTPUT
from models.reference.build import Rows, make_reference
from models.reference.declaration import read_declaration

INPUTS = (TensorSpec(name=INPUT, datatype="FP32", shape=(-1, data.SIDE, data.SIDE)),)
OUTPUTS = (TensorSpec(name=OUTPUT, datatype="FP32", shape=(-1, data.CLASSES)),)
GOLDEN_PER_CLASS = 4
DATASET = (
    "UCI optdigits test set, as scikit-learn's load_digits ships it; held-out part of this recipe's split"
)

SIGNALS = Path(__file__).with_name("signals.toml")
"""What is watched; users declare theirs in the same way (docs/drift-reference.md)."""


def rows_of(images: FloatArray) -> FloatArray:
    """(n, 8, 8) → (n, 64)."""
    return np.ascontiguousarray(images.reshape(len(images), -1))


def describe(
    *,
    variants: tuple[VariantFile, ...],
    summary: str,
    recipe: str,
    golden_tolerance: float,
    teacher_sha256: str | None = None,
    distilled_from: Parent | None = None,
    quantized_from: str | None = None,
) -> Description:
    """The description of a ``digits`` folder."""
    return Description(
        model="digits",
        summary=summary,
        labels=data.LABELS,
        inputs=INPUTS,
        outputs=OUTPUTS,
        preprocessing=data.PREPROCESSING,
        variants=variants,
        golden_tolerance=golden_tolerance,
        golden_class_agreement=1.0,
        teacher_sha256=teacher_sha256,
        distilled_from=distilled_from,
        quantized_from=quantized_from,
        datasets=data.load().digests,
        recipe=recipe,
        code_version=code_version(),
        packages=package_versions(("numpy", "scikit-learn", "onnx", "onnxruntime", "ai-edge-litert")),
    )


def finish(folder: Path, description: Description) -> None:
    """Measure the model files that stand in ``folder`` and write everything that goes with them."""
    digits = data.load()
    predicts = {variant.name: predictor(folder, description, variant) for variant in description.variants}
    calibration = digits.calibration
    rows = choose_rows(calibration.images, calibration.labels, predicts, per_class=GOLDEN_PER_CLASS)
    golden = golden_vectors(calibration.images[rows], predicts, INPUTS, OUTPUTS)
    (folder / GOLDEN_FILENAME).write_bytes(golden)
    reference = drift_reference(predicts[description.variants[0].name])
    (folder / REFERENCE_FILENAME).write_bytes(encode_reference(reference))
    evaluation = Evaluation(
        dataset=DATASET,
        dataset_sha256=digits.held_out.sha256,
        variants=tuple(
            evaluate(
                name,
                predict,
                images=digits.held_out.images,
                labels=digits.held_out.labels,
                names=data.LABELS,
                corruptions=data.CORRUPTIONS,
            )
            for name, predict in predicts.items()
        ),
    )
    write_json(folder / EVALUATION_FILENAME, evaluation)
    (folder / CARD_FILENAME).write_text(render_card(folder, description, evaluation), encoding="utf-8")
    write_json(folder / DESCRIPTION_FILENAME, description)  # last: a folder with it is whole


def drift_reference(predict: Predict) -> DriftReference:
    """The reference of images that were not trained on, whose confidences are those that a device will see.

    Confidences are calibrated on the same images, and checked on the held-out ones: they had no part in anything.
    """
    parts = data.load()
    calibration, held_out = (
        Rows(
            inputs={INPUT: part.images},
            outputs={OUTPUT: predict(part.images)},
            sha256=part.sha256,
            labels=part.labels,
        )
        for part in (parts.calibration, parts.held_out)
    )
    return make_reference(read_declaration(SIGNALS), calibration, check=held_out)
