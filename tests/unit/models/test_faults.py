"""Bad releases must be bad, must load, and must be bad only in the way they say."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from agent.protocol.codec import decode_msgpack
from agent.protocol.golden import GoldenVectors
from models.description import read_description, sha256_of
from models.digits import data
from models.errors import ReleaseFolderError, UnsupportedGraphError
from models.evaluation import accuracy, predictor
from models.fault_graphs import delay_onnx, swap_onnx_classes, swap_tflite_classes
from models.faults import make_fault
from models.network import FloatArray

KEPT = ("golden.msgpack", "reference.json", "evaluation.json", "card.md")


def _golden(folder: Path, variant: str) -> tuple[FloatArray, FloatArray]:
    golden: GoldenVectors = decode_msgpack((folder / "golden.msgpack").read_bytes(), GoldenVectors)
    (tensor,), (expected,) = golden.inputs, golden.expected[variant]
    return (
        np.frombuffer(tensor.data, "<f4").reshape(tensor.shape),
        np.frombuffer(expected.data, "<f4").reshape(expected.shape),
    )


@pytest.mark.parametrize("source", ["teacher_folder", "student_folder"])
def test_wrong_outputs_miss_the_golden_vectors(
    source: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    good: Path = request.getfixturevalue(source)
    bad = tmp_path / "bad"
    description = make_fault("wrong-outputs", good, bad)
    assert all(sha256_of(bad / name) == sha256_of(good / name) for name in KEPT)
    for variant in description.variants:
        predict = predictor(bad, description, variant)
        images, expected = _golden(bad, variant.name)
        answers = predict(images)
        assert np.abs(answers - expected).max() > 0.5
        assert (answers.argmax(axis=1) == expected.argmax(axis=1)).mean() == pytest.approx(0.8)
        assert sha256_of(bad / variant.filename) != sha256_of(good / variant.filename)
        scans, labels = data.held_out()
        assert accuracy(predict(scans), labels) < 0.85


def test_too_slow_answers_rightly_and_late(student_folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    description = make_fault("too-slow", student_folder, bad, delay_ms=60.0)
    assert [variant.name for variant in description.variants] == ["onnx-int8"]
    assert not (bad / "digits-int8.tflite").exists()
    assert all(sha256_of(bad / name) == sha256_of(student_folder / name) for name in KEPT)
    images, expected = _golden(bad, "onnx-int8")
    predict = predictor(bad, description, description.variants[0])
    assert np.array_equal(predict(images), expected)
    started = time.perf_counter()
    predict(images[:1])
    # The bound is below the 60 ms asked for: the core may run faster than while the file was made.
    assert time.perf_counter() - started > 0.030


def test_a_delay_grows_with_its_rounds(student_folder: Path) -> None:
    good = (student_folder / "digits-int8.onnx").read_bytes()
    short, long = delay_onnx(good, rounds=1), delay_onnx(good, rounds=10**6)
    assert abs(len(long) - len(short)) < 64
    assert len(long) < len(good) + 2_000


def test_swapping_twice_gives_the_good_answers_back(student_folder: Path, tmp_path: Path) -> None:
    description = read_description(student_folder)
    images, _ = data.held_out()
    onnx_variant, tflite_variant = description.variants
    for variant, swap in ((onnx_variant, swap_onnx_classes), (tflite_variant, swap_tflite_classes)):
        good = (student_folder / variant.filename).read_bytes()
        (tmp_path / variant.filename).write_bytes(swap(swap(good, 3, 8), 3, 8))
        again = predictor(tmp_path, description, variant)(images)
        assert np.array_equal(again, predictor(student_folder, description, variant)(images))
        (tmp_path / variant.filename).write_bytes(swap(good, 3, 8))
        swapped = predictor(tmp_path, description, variant)(images)
        order = [0, 1, 2, 8, 4, 5, 6, 7, 3, 9]
        assert np.allclose(swapped[:, order], again, atol=1e-6)


def test_refusals(student_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseFolderError, match="already holds a release; choose an empty folder"):
        make_fault("wrong-outputs", student_folder, student_folder)
    with pytest.raises(ReleaseFolderError, match="is not a release folder"):
        make_fault("too-slow", tmp_path, tmp_path / "bad")


def test_too_slow_needs_an_onnx_variant(student_folder: Path, tmp_path: Path) -> None:
    import msgspec

    from models.description import write_json

    source = tmp_path / "source"
    shutil.copytree(student_folder, source)
    description = read_description(source)
    write_json(
        source / "recipe.json", msgspec.structs.replace(description, variants=description.variants[1:])
    )
    with pytest.raises(UnsupportedGraphError, match="needs an ONNX variant"):
        make_fault("too-slow", source, tmp_path / "bad")


def test_a_graph_without_dense_layers_is_refused() -> None:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    payload = onnx.ModelProto(graph=graph).SerializeToString()
    with pytest.raises(UnsupportedGraphError, match="no Gemm node"):
        swap_onnx_classes(payload, 3, 8)
