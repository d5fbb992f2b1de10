from pathlib import Path

import numpy as np
import pytest

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import DTYPES
from hw_bench.errors import SubjectError
from hw_bench.serving.echo import constant_answer
from hw_bench.serving.model import ITEM_BYTES, ServedModel, read_served
from models.description import REFERENCE_FILENAME


def test_both_variants_of_a_release_folder(student_folder: Path) -> None:
    served = read_served(student_folder)
    assert set(served) == {"onnx", "tflite"}
    model = served["onnx"]
    assert model.row_shape == (1, 8, 8)
    image = np.frombuffer(model.row, np.float32)
    assert image.shape == (64,)
    assert 0 <= image.min() < image.max() <= 1
    assert model.reference is not None
    assert model.reference.name == REFERENCE_FILENAME
    route = model.route("edgeward", "127.0.0.1:1", "json")
    assert (route.model, route.shape, route.outputs) == ("digits", (1, 8, 8), ("probabilities",))


def test_no_release_folder(tmp_path: Path) -> None:
    with pytest.raises(SubjectError, match="is not a release folder"):
        read_served(tmp_path)


def test_item_sizes_are_the_backends() -> None:
    assert {name: dtype.itemsize for name, dtype in DTYPES.items()} == ITEM_BYTES


def test_the_constant_answer_has_the_outputs_sizes(tmp_path: Path) -> None:
    model = ServedModel(
        name="m",
        runtime="onnx",
        path=tmp_path,
        input=TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),
        outputs=(
            TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),
            TensorSpec(name="z", datatype="INT8", shape=(-1, 2, 2)),
        ),
        row=bytes(16),
        reference=None,
    )
    described, tensors = constant_answer(model)
    assert len(tensors) == 12 + 4
    assert b'"binary_data_size":12' in described
    assert b'"binary_data_size":4' in described
