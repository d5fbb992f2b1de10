"""The shipped reference stays quiet on clean scans and speaks on a dirty lens, for each variant."""

from pathlib import Path

import numpy as np
import pytest

from agent.drift import Identity, WindowBuilder, decode_reference
from agent.protocol.drift import VerdictLevel
from models.description import read_description
from models.digits import data
from models.evaluation import predictor
from models.network import FloatArray


def _levels(folder: Path, variant: int, images: FloatArray) -> list[VerdictLevel]:
    description = read_description(folder)
    predict = predictor(folder, description, description.variants[variant])
    reference = decode_reference((folder / "reference.json").read_bytes())
    identity = Identity(model="digits", release=1, deployment="d1", artifact="0" * 64)
    rng = np.random.default_rng(11)
    levels: list[VerdictLevel] = []
    for _ in range(20):
        pick = images[rng.choice(len(images), 300, replace=False)]
        builder = WindowBuilder(identity, reference)
        builder.add({"image": pick}, {"probabilities": predict(pick)}, 1.0)
        window = builder.close(2.0)
        assert window is not None
        levels.append(window.window.verdict.level)
    return levels


@pytest.mark.parametrize("variant", [0, 1])
def test_student(student_folder: Path, variant: int) -> None:
    images, _ = data.held_out()
    assert set(_levels(student_folder, variant, images)) == {"ok"}
    assert set(_levels(student_folder, variant, data.dirty_lens(images))) == {"drift"}


def test_the_students_accuracy_is_estimated_and_held_out_labels_agree(student_folder: Path) -> None:
    reference = decode_reference((student_folder / "reference.json").read_bytes())
    assert reference.calibration is not None
    assert reference.calibration.problem is None
    assert sum(reference.calibration.rows) == len(data.load().calibration.labels)
    description = read_description(student_folder)
    images, labels = data.held_out()
    probabilities = predictor(student_folder, description, description.variants[0])(images)
    builder = WindowBuilder(
        Identity(model="digits", release=1, deployment="d1", artifact="0" * 64), reference
    )
    builder.add({"image": images}, {"probabilities": probabilities}, 1.0)
    closed = builder.close(2.0)
    assert closed is not None
    assert closed.window.estimate is not None
    correct = probabilities.argmax(axis=1) == labels
    assert closed.window.estimate.low <= correct.mean() <= closed.window.estimate.high


def test_teacher(teacher_folder: Path) -> None:
    images, _ = data.held_out()
    assert set(_levels(teacher_folder, 0, images)) == {"ok"}
    assert set(_levels(teacher_folder, 0, data.dirty_lens(images))) == {"drift"}
