import numpy as np
import pytest

from models.errors import RecipeError
from models.evaluation import accuracy, calibration_errors, evaluate
from models.golden import choose_rows
from models.network import FloatArray


def _probabilities(confidence: list[float]) -> FloatArray:
    """Two classes; class 0 has the confidence."""
    first = np.array(confidence, np.float32)
    return np.stack([first, 1 - first], axis=1)


def test_calibration_of_a_hand_made_case() -> None:
    # Bin of 0.9: confidence 0.9, half right, gap 0.4. Bin of 0.6: confidence 0.6, all right, gap 0.4 as well.
    found = calibration_errors(_probabilities([0.9, 0.9, 0.6, 0.6]), np.array([0, 1, 0, 0]), bins=10)
    assert found.expected_calibration_error == pytest.approx(0.4, abs=1e-6)
    assert found.maximum_calibration_error == pytest.approx(0.4, abs=1e-6)
    # Weights are rows: three rows with gap 0.1, one with gap 0.6.
    found = calibration_errors(_probabilities([0.9, 0.9, 0.9, 0.6]), np.array([0, 0, 0, 1]), bins=10)
    assert found.expected_calibration_error == pytest.approx((3 * 0.1 + 0.6) / 4, abs=1e-6)
    assert found.maximum_calibration_error == pytest.approx(0.6, abs=1e-6)


def test_full_confidence_has_a_bin() -> None:
    found = calibration_errors(_probabilities([1.0, 1.0]), np.array([0, 0]))
    assert found.expected_calibration_error == 0.0


def test_evaluation_slices_and_robustness() -> None:
    def brightest_half(images: FloatArray) -> FloatArray:
        left, right = images[:, :, 0].mean(axis=1), images[:, :, 1].mean(axis=1)
        return np.stack([left > right, left <= right], axis=1).astype(np.float32)

    images = np.zeros((4, 2, 2), np.float32)
    images[:3, :, 0] = 1.0
    labels = np.array([0, 0, 1, 1])
    found = evaluate(
        "v",
        brightest_half,
        images=images,
        labels=labels,
        names=("left", "right"),
        corruptions={"mirror": lambda scans: scans[:, :, ::-1]},
    )
    assert found.accuracy == 0.75
    assert [(part.name, part.rows, part.accuracy) for part in found.slices] == [
        ("class left", 2, 1.0),
        ("class right", 2, 0.5),
    ]
    assert found.robustness == {"mirror": 0.5}
    assert accuracy(brightest_half(images), labels) == 0.75


def test_golden_rows_are_right_and_clear_for_every_variant() -> None:
    images = np.zeros((4, 1, 1), np.float32)
    labels = np.array([0, 0, 0, 0])
    sure = _probabilities([0.9, 0.55, 0.9, 0.1])
    other = _probabilities([0.9, 0.9, 0.5, 0.9])
    predicts = {"a": lambda _: sure, "b": lambda _: other}
    assert choose_rows(images, labels, predicts, per_class=1).tolist() == [0]
    with pytest.raises(
        RecipeError, match="class 0 has 1 images that every variant reads clearly, 2 are needed"
    ):
        choose_rows(images, labels, predicts, per_class=2)
