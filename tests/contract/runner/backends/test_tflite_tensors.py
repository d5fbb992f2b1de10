"""What is particular to TFLite files: integers with a scale, and names that converters change."""

import numpy as np
import pytest

from agent.protocol.manifest import Datatype
from agent.runner.backends import DTYPES, ContractMismatchError, ModelRefusedError
from tests.contract.runner.backends.model_files import SCALES
from tests.contract.runner.backends.subject import Subject, rows, spec

FP32 = np.float32
QUANTIZED: tuple[Datatype, ...] = ("INT8", "UINT8", "INT16")


@pytest.mark.parametrize("datatype", QUANTIZED)
def test_declared_fp32_is_quantized_and_dequantized_by_scale_and_zero_point(
    tflite: Subject, datatype: Datatype
) -> None:
    backend = tflite.copy("FP32", f"quantized-{datatype}")
    scale, zero = SCALES[datatype]
    limits = np.iinfo(DTYPES[datatype])
    x = rows(40)
    stored = np.clip(np.rint(x / FP32(scale)) + zero, limits.min, limits.max)
    np.testing.assert_array_equal(backend.infer({"x": x})["y"], (stored - zero).astype(FP32) * FP32(scale))


@pytest.mark.parametrize("datatype", QUANTIZED)
def test_what_does_not_fit_saturates_and_nan_becomes_the_zero_point(
    tflite: Subject, datatype: Datatype
) -> None:
    backend = tflite.copy("FP32", f"quantized-{datatype}")
    scale, zero = SCALES[datatype]
    limits = np.iinfo(DTYPES[datatype])
    x = np.array([[np.inf, -np.inf, 3e38, np.nan]], FP32)
    low, high = ((limit - zero) * FP32(scale) for limit in (limits.min, limits.max))
    np.testing.assert_array_equal(backend.infer({"x": x})["y"], np.array([[high, low, high, 0.0]], FP32))


@pytest.mark.parametrize("datatype", QUANTIZED)
def test_declared_as_integers_they_pass_as_they_are(tflite: Subject, datatype: Datatype) -> None:
    backend = tflite.copy(datatype, f"quantized-{datatype}")
    limits = np.iinfo(DTYPES[datatype])
    x = np.array([[limits.min, limits.max, 1, 0]], DTYPES[datatype])
    y = backend.infer({"x": x})["y"]
    assert y.dtype == DTYPES[datatype]
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("copy-INT8", "INT8 without one scale and zero point"),
        ("quantized-INT32", "INT32 of more than 16 bits"),
    ],
)
def test_integers_that_have_no_real_value_each_are_not_fp32(tflite: Subject, what: str, told: str) -> None:
    with pytest.raises(ContractMismatchError, match=f"input 'x': the manifest declares FP32, .* has {told}"):
        tflite.copy("FP32", what)


@pytest.mark.parametrize("what", ["quantized-by-axis", "quantized-by-nought"])
def test_scales_that_cannot_be_used_are_refused_by_the_library_or_here(tflite: Subject, what: str) -> None:
    with pytest.raises(ModelRefusedError, match=r"one scale and zero point|does not load"):
        tflite.copy("FP32", what)


@pytest.mark.parametrize("what", ["pair", "pair-prefixed", "pair-signed"])
def test_names_are_those_of_the_signature_or_of_the_tensors_without_what_converters_add(
    tflite: Subject, what: str
) -> None:
    a, b = rows(2, seed=1), rows(2, seed=2)
    answer = tflite.pair(what).infer({"a": a, "b": b})
    np.testing.assert_array_equal(answer["sum"], a + b)
    np.testing.assert_array_equal(answer["difference"], a - b)


@pytest.mark.parametrize("what", ["pair-signed", "pair-signed-twice"])
def test_the_graphs_own_names_may_be_declared_too(tflite: Subject, what: str) -> None:
    backend = tflite.open(
        what,
        [spec("t0", "FP32", -1, 4), spec("t1", "FP32", -1, 4)],
        [spec("t2", "FP32", -1, 4), spec("t3", "FP32", -1, 4)],
    )
    a, b = rows(2, seed=1), rows(2, seed=2)
    np.testing.assert_array_equal(backend.infer({"t0": a, "t1": b})["t3"], a - b)


@pytest.mark.parametrize(
    ("what", "has"),
    [
        ("pair-signed", r"a, b \(signature\); or t0, t1 \(tensors\)"),
        ("pair-prefixed", r"serving_default_a:0, serving_default_b:0 \(tensors\); or a, b \(shortened\)"),
        ("pair", r"a, b \(tensors\)"),
        ("pair-signed-twice", r"t0, t1 \(tensors\)"),
        ("pair-same-names", "names that stand twice"),
    ],
)
def test_the_refusal_lists_every_name_the_file_has(tflite: Subject, what: str, has: str) -> None:
    with pytest.raises(
        ContractMismatchError, match=f"inputs: the manifest declares left, right; the model file has {has}$"
    ):
        tflite.open(
            what,
            [spec("left", "FP32", -1, 4), spec("right", "FP32", -1, 4)],
            [spec("sum", "FP32", -1, 4)],
        )
