"""Settings are measured for real, each in a process of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hw_bench.errors import MeasurementError, SubjectError
from hw_bench.tuning.command import _measure
from hw_bench.tuning.settings import SETTINGS
from hw_bench.tuning.subjects import subjects
from tests.contract.runner import tiny_models as tiny

MAKERS: dict[str, Callable[[], bytes]] = {"onnx": tiny.onnx_linear, "tflite": tiny.tflite_linear}


@pytest.mark.parametrize("runtime", list(MAKERS))
def test_the_default_and_the_last_setting_are_measured(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(MAKERS[runtime]())
    for setting in (SETTINGS[runtime][0], SETTINGS[runtime][-1]):
        measured = _measure(runtime, path, setting)
        assert 0 < measured.p50_us <= measured.p99_us
        assert 0 < measured.loaded_mib < 60


def test_a_file_that_is_no_model_is_told_with_the_childs_last_words(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"(?s)model, default: .*protobuf"):
        _measure("onnx", path, "default")


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match=r"no \.onnx or \.tflite file"):
        subjects(tmp_path, tmp_path)
