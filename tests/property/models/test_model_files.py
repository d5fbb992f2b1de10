"""Any small dense network: what the written files answer is what the arrays answer, within the bits they have."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import open_backend
from models.network import Dense, FloatArray, Network, softmax
from models.onnx_file import quantize_onnx, write_onnx
from models.tflite_file import activation_scale, write_tflite

SIDE = 4
ONCE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def networks(draw: st.DrawFn) -> Network:
    hidden = draw(st.lists(st.integers(1, 24), max_size=2))
    widths = [SIDE * SIDE, *hidden, draw(st.integers(2, 12))]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    gain = draw(st.sampled_from([0.3, 1.0, 2.0]))
    return Network(
        tuple(
            Dense(
                weight=(gain * rng.normal(0, 1 / np.sqrt(before), (before, after))).astype(np.float32),
                bias=(gain * rng.normal(0, 0.3, after)).astype(np.float32),
            )
            for before, after in itertools.pairwise(widths)
        )
    )


def _images(count: int) -> FloatArray:
    return np.random.default_rng(count).random((count, SIDE, SIDE), dtype=np.float32)


def _answer(runtime: str, payload: bytes, folder: Path, images: FloatArray, classes: int) -> FloatArray:
    path = folder / f"model.{runtime}"
    path.write_bytes(payload)
    backend = open_backend(
        runtime,
        path,
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(-1, SIDE, SIDE)),),
        outputs=(TensorSpec(name="probabilities", datatype="FP32", shape=(-1, classes)),),
    )
    result: FloatArray = backend.infer({"image": images})["probabilities"]
    return result


@ONCE
@given(network=networks(), rows=st.integers(1, 9))
def test_onnx_fp32_is_exact(network: Network, rows: int, tmp_path: Path) -> None:
    images = _images(rows)
    expected = softmax(network.logits(images.reshape(rows, -1)))
    found = _answer("onnx", write_onnx(network, side=SIDE), tmp_path, images, expected.shape[1])
    assert np.allclose(found, expected, atol=1e-5)


@ONCE
@given(network=networks(), rows=st.integers(1, 9))
def test_int8_files_stay_near(network: Network, rows: int, tmp_path: Path) -> None:
    calibration = _images(200)
    images = calibration[:rows]  # inside the calibrated range
    expected = softmax(network.logits(images.reshape(rows, -1)))
    classes = expected.shape[1]
    tflite = write_tflite(network, side=SIDE, calibration=calibration)
    onnx = quantize_onnx(write_onnx(network, side=SIDE), calibration)
    for runtime, payload in (("tflite", tflite), ("onnx", onnx)):
        found = _answer(runtime, payload, tmp_path, images, classes)
        assert np.abs(found - expected).max() < 0.08, runtime
        assert np.allclose(found.sum(axis=1), 1, atol=1e-4), runtime


@given(
    low=st.floats(-1e3, 1e3, width=32),
    high=st.floats(-1e3, 1e3, width=32),
)
def test_activation_scales_hold_their_values_and_zero(low: float, high: float) -> None:
    values = np.array([low, high], np.float32)
    scale = activation_scale(values)
    assert -128 <= scale.zero_point <= 127
    lowest, highest = (scale.scale * (edge - scale.zero_point) for edge in (-128, 127))
    slack = 0.51 * scale.scale
    assert lowest <= min(float(values.min()), 0.0) + slack
    assert highest >= max(float(values.max()), 0.0) - slack


def test_outside_the_calibrated_range_it_saturates_and_stays_finite(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(SIDE * SIDE, 3)).astype(np.float32)
    network = Network((Dense(weight=weight, bias=np.zeros(3, np.float32)),))
    payload = write_tflite(network, side=SIDE, calibration=_images(50))
    found = _answer("tflite", payload, tmp_path, 100 * _images(4), 3)
    assert np.isfinite(found).all()
    assert found.sum(axis=1).tolist() == pytest.approx([1.0] * 4, abs=1e-4)
