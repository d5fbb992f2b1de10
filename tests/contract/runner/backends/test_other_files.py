"""Weights in another file: the attack on ONNX Runtime that is known to work, and that it doesn't work here."""

import os
from pathlib import Path

import numpy as np
import pytest

from agent.runner.backends import HostileModelError, open_backend
from tests.contract.runner.backends.subject import spec

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX files need onnxruntime, which is not installed")

SECRET = np.array([[3.0, 1.0, 4.0, 1.5]], np.float32)
X, Y = [spec("x", "FP32", -1, 4)], [spec("y", "FP32", -1, 4)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the model lies; a secret lies beside it, and has other names in it."""
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    folder = tmp_path / "artifacts"
    folder.mkdir()
    os.link(tmp_path / "secret", folder / "hard")
    (folder / "soft").symlink_to(tmp_path / "secret")
    monkeypatch.chdir(folder)
    return folder


def model(folder: Path, location: str) -> Path:
    from tests.contract.runner.tiny_onnx import reads_another_file

    path = folder / "model.onnx"
    path.write_bytes(reads_another_file(location))
    return path


def test_the_attack_is_real_where_the_runtime_opens_the_file_itself(folder: Path) -> None:
    session = onnxruntime.InferenceSession(str(model(folder, "hard")), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": np.zeros((1, 4), np.float32)})
    np.testing.assert_array_equal(answer, SECRET)


@pytest.mark.parametrize("location", ["hard", "soft", "../secret", "./hard", "absolute", "../artifacts/hard"])
def test_no_location_of_external_data_is_read(folder: Path, location: str) -> None:
    place = str(folder.parent / "secret") if location == "absolute" else location
    with pytest.raises(HostileModelError, match="external data"):
        open_backend("onnx", model(folder, place), inputs=X, outputs=Y)


def test_onnx_runtimes_own_format_is_not_taken_for_onnx(folder: Path) -> None:
    from tests.contract.runner import tiny_models as tiny

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "model.ort")
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(tiny.onnx_linear(), options, providers=["CPUExecutionProvider"])
    made = (folder / "model.ort").read_bytes()
    # Left to itself the library would load it, from bytes and under any name.
    onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])
    with pytest.raises(HostileModelError, match="ONNX Runtime's own format"):
        open_backend("onnx", folder / "model.ort", inputs=tiny.INPUTS, outputs=tiny.OUTPUTS)
