"""One suite over every backend."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agent.runner.backends import (
    Backend,
    ContractMismatchError,
    InferenceError,
    ModelRefusedError,
    UnreadableModelError,
    available_runtimes,
    open_backend,
)
from tests.contract.runner import tiny_models as tiny

Make = Callable[[], bytes]

LINEAR: dict[str, tuple[str, Make]] = {
    "onnx": ("onnx", tiny.onnx_linear),
    "tflite": ("tflite", tiny.tflite_linear),
    "tflite-int8": ("tflite", lambda: tiny.tflite_linear(quantized=True)),
}
TOLERANCE = {"onnx": 1e-6, "tflite": 1e-6, "tflite-int8": 0.1}


@pytest.fixture(params=list(LINEAR))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model_path(kind: str, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.write_bytes(LINEAR[kind][1]())
    return path


@pytest.fixture
def runtime(kind: str) -> str:
    return LINEAR[kind][0]


@pytest.fixture
def backend(runtime: str, model_path: Path) -> Backend:
    return open_backend(runtime, model_path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)


def rows(count: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(-2, 2, (count, 4)).astype(np.float32)


def test_every_runtime_is_installed_here() -> None:
    assert set(available_runtimes()) == {"onnx", "tflite"}


def test_it_names_its_library_and_version(backend: Backend, runtime: str) -> None:
    assert backend.describe() == available_runtimes()[runtime]


def test_it_computes_the_model(backend: Backend, kind: str) -> None:
    x = rows(5)
    answer = backend.infer({"x": x})
    assert list(answer) == ["y"]
    assert answer["y"].dtype == np.float32
    np.testing.assert_allclose(answer["y"], tiny.expected(x), atol=TOLERANCE[kind])


@pytest.mark.parametrize("sizes", [(1, 7, 1, 3), (64, 1, 64)])
def test_any_batch_size_in_any_order_gives_each_row_the_same_answer(
    backend: Backend, sizes: tuple[int, ...]
) -> None:
    x = rows(64)
    alone = np.concatenate([backend.infer({"x": x[i : i + 1]})["y"] for i in range(64)])
    for size in sizes:
        np.testing.assert_allclose(backend.infer({"x": x[:size]})["y"], alone[:size], atol=1e-6)


def test_the_same_input_gives_the_same_bits(backend: Backend) -> None:
    x = rows(9)
    assert backend.infer({"x": x})["y"].tobytes() == backend.infer({"x": x})["y"].tobytes()


def test_an_answer_is_not_overwritten_by_the_next_one(backend: Backend) -> None:
    first = backend.infer({"x": rows(2, seed=1)})["y"]
    before = first.copy()
    backend.infer({"x": rows(2, seed=2)})
    np.testing.assert_array_equal(first, before)


def test_read_only_input_is_taken_and_left_alone(backend: Backend, kind: str) -> None:
    x = np.frombuffer(rows(2).tobytes(), np.float32).reshape(2, 4)
    np.testing.assert_allclose(backend.infer({"x": x})["y"], tiny.expected(x), atol=TOLERANCE[kind])


def test_a_wrong_shape_is_an_inference_error_and_the_next_request_is_answered(
    backend: Backend, kind: str
) -> None:
    for wrong in (np.zeros((2, 5), np.float32), np.zeros(4, np.float32), np.zeros((0, 5), np.float32)):
        with pytest.raises(InferenceError):
            backend.infer({"x": wrong})
    x = rows(2)
    np.testing.assert_allclose(backend.infer({"x": x})["y"], tiny.expected(x), atol=TOLERANCE[kind])


def test_a_missing_input_is_an_inference_error(backend: Backend) -> None:
    with pytest.raises(InferenceError):
        backend.infer({})


@pytest.mark.parametrize(
    ("inputs", "outputs", "told"),
    [
        (
            [tiny.spec("image", "FP32", -1, 4)],
            tiny.OUTPUTS,
            r"inputs: .* declares image; the model file has x",
        ),
        (tiny.INPUTS, [tiny.spec("z", "FP32", -1, 3)], r"outputs: .* declares z; the model file has y"),
        ([*tiny.INPUTS, tiny.spec("w", "FP32", -1, 4)], tiny.OUTPUTS, r"declares w, x; the model file has x"),
        (
            [tiny.spec("x", "FP32", -1, 5)],
            tiny.OUTPUTS,
            r"input 'x': .* shape \[-1, 5\], the model file has \[-1, 4\]",
        ),
        ([tiny.spec("x", "FP32", 4)], tiny.OUTPUTS, r"input 'x': .* shape \[4\]"),
        ([tiny.spec("x", "INT64", -1, 4)], tiny.OUTPUTS, r"input 'x': .* INT64, the model file has"),
        (tiny.INPUTS, [tiny.spec("y", "FP64", -1, 3)], r"output 'y': .* FP64, the model file has"),
        ([tiny.spec("x", "BYTES", -1, 4)], tiny.OUTPUTS, r"input 'x': .* BYTES, the model file has"),
    ],
)
def test_a_file_that_breaks_the_manifest_is_refused_by_tensor(
    runtime: str, model_path: Path, inputs: list[object], outputs: list[object], told: str
) -> None:
    with pytest.raises(ContractMismatchError, match=told):
        open_backend(runtime, model_path, inputs=inputs, outputs=outputs)  # type: ignore[arg-type]  # parametrized


def test_garbage_and_truncated_files_are_refused(runtime: str, model_path: Path, tmp_path: Path) -> None:
    whole = model_path.read_bytes()
    for content in (b"", b"garbage" * 50, whole[: len(whole) // 2], whole[:9]):
        path = tmp_path / "broken"
        path.write_bytes(content)
        with pytest.raises(ModelRefusedError):
            open_backend(runtime, path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)


def test_the_digest_is_that_of_the_bytes_that_are_loaded(runtime: str, model_path: Path) -> None:
    digest = hashlib.sha256(model_path.read_bytes()).hexdigest()
    open_backend(runtime, model_path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS, sha256=digest)
    with pytest.raises(UnreadableModelError, match=f"SHA-256 is {digest}"):
        open_backend(runtime, model_path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS, sha256="0" * 64)


def test_links_pipes_and_absent_files_are_refused(runtime: str, model_path: Path, tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(model_path)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, tmp_path / "absent"):
        with pytest.raises(UnreadableModelError):
            open_backend(runtime, path, inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)
