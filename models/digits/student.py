"""The student: a small dense network that imitates the teacher, in int8 for two runtimes."""

from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import Parent, decode_manifest
from models.description import Description, VariantFile, read_description, sha256_of
from models.digits import data
from models.digits.release import describe, finish, rows_of
from models.distillation import DistillationConfig, distil
from models.errors import ReleaseFolderError
from models.evaluation import predictor
from models.network import FloatArray, Network, fit_temperature
from models.onnx_file import OPSET, quantize_onnx, write_onnx
from models.tflite_file import SCHEMA_VERSION, write_tflite

COPIES = 24
CONFIG = DistillationConfig(hidden=(96,), temperature=3.0, hard_weight=0.1, epochs=50, batch=128, seed=20)
FLOAT_FILENAME = "float/digits-student-fp32.onnx"
"""Kept beside the release for the auditor who follows ``quantized_from``; it is not a variant."""

ONNX = VariantFile(
    name="onnx-int8",
    runtime="onnx",
    precision="int8",
    filename="digits-int8.onnx",
    opset=OPSET,
    minimum_runtime="onnxruntime 1.22",
)
TFLITE = VariantFile(
    name="tflite-int8",
    runtime="tflite",
    precision="int8",
    filename="digits-int8.tflite",
    opset=SCHEMA_VERSION,
    minimum_runtime="ai-edge-litert 1.3",
)


def train(teacher_logits: FloatArray, part: data.Part) -> Network:
    """Distil on ``part`` and fit the temperature on the calibration part."""
    with threadpool_limits(limits=1):  # as the teacher
        network = distil(rows_of(part.images), teacher_logits, part.labels, CONFIG)
    calibration = data.load().calibration
    logits = network.logits(rows_of(calibration.images))
    return network.cooled(fit_temperature(logits, calibration.labels))


def make_student(teacher: Path, folder: Path) -> Description:
    """Distil and quantise a student and write its whole release folder except the bench and the manifest.

    Raises:
        ReleaseFolderError: ``teacher`` is no folder of this recipe's teacher.
    """
    teacher_file, parent = _teacher(teacher)
    part = data.augmented(data.load().train, copies=COPIES, seed=2)
    network = train(_teacher_logits(teacher, part.images), part)
    (folder / FLOAT_FILENAME).parent.mkdir(parents=True, exist_ok=True)
    calibration = data.load().calibration.images
    float_file = write_onnx(network, side=data.SIDE)
    (folder / FLOAT_FILENAME).write_bytes(float_file)
    (folder / ONNX.filename).write_bytes(quantize_onnx(float_file, calibration))
    tflite = write_tflite(network, side=data.SIDE, calibration=calibration)
    (folder / TFLITE.filename).write_bytes(tflite)
    description = describe(
        variants=(ONNX, TFLITE),
        summary=(
            f"Student {network.widths} ({network.parameters:,} parameters), distilled from the teacher and "
            f"quantised to int8: {len(tflite):,} bytes against {teacher_file.stat().st_size:,}."
        ),
        recipe="python -m models digits student --teacher DIR --out DIR",
        # int8 steps of the logits differ by one between machines; a class that is swapped differs by almost 1.
        golden_tolerance=0.1,
        teacher_sha256=sha256_of(teacher_file),
        distilled_from=parent,
        quantized_from=sha256_of(folder / FLOAT_FILENAME),
    )
    finish(folder, description)
    return description


def _teacher(folder: Path) -> tuple[Path, Parent | None]:
    description = read_description(folder)
    floats = [variant for variant in description.variants if variant.precision == "fp32"]
    if description.model != "digits" or not floats:
        raise ReleaseFolderError(
            f"{folder} holds no teacher of 'digits' in fp32; make one: python -m models digits teacher --out DIR"
        )
    manifest = folder / MANIFEST_FILENAME
    if not manifest.exists():
        return folder / floats[0].filename, None
    decoded = decode_manifest(manifest.read_bytes())
    return folder / floats[0].filename, Parent(model=decoded.model, release=decoded.release)


def _teacher_logits(folder: Path, images: FloatArray) -> FloatArray:
    """Logits up to a constant a row, from the probabilities that the teacher's released file gives."""
    description = read_description(folder)
    floats = next(variant for variant in description.variants if variant.precision == "fp32")
    probabilities = predictor(folder, description, floats)(images)
    result: FloatArray = np.log(np.maximum(probabilities, np.float32(1e-12)))
    return result
