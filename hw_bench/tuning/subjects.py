"""Models to tune for: the recipe's, and larger ones made here from random weights (only their cost is of interest)."""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from hw_bench.errors import SubjectError
from models.network import Dense, FloatArray, Network
from models.onnx_file import quantize_onnx, write_onnx
from models.tflite_file import write_tflite

SIDE = 28
WIDTHS = (SIDE * SIDE, 1024, 1024, 10)
IMAGE = 64
CHANNELS = (3, 32, 64, 64, 128)


class Subject(NamedTuple):
    name: str
    runtime: str
    path: Path


def subjects(release: Path, folder: Path) -> list[Subject]:
    """The release's variants, and the larger models written to ``folder``.

    Raises:
        SubjectError: the release folder has no model files.
    """
    found = [
        Subject(path.name, "onnx" if path.suffix == ".onnx" else "tflite", path)
        for path in sorted(release.rglob("*"))
        if path.suffix in {".onnx", ".tflite"}
    ]
    if not found:
        raise SubjectError(f"{release}: no .onnx or .tflite file")
    chance = np.random.default_rng(0)
    images = chance.uniform(0, 1, (64, SIDE, SIDE)).astype(np.float32)
    network = _network(chance)
    wide = write_onnx(network, side=SIDE)
    made = {
        "dense-fp32.onnx": wide,
        "dense-int8.onnx": quantize_onnx(wide, images),
        "dense-int8.tflite": write_tflite(network, side=SIDE, calibration=images),
        "conv-fp32.onnx": _convolutions(chance),
    }
    for name, content in made.items():
        (folder / name).write_bytes(content)
        found.append(Subject(name, "onnx" if name.endswith(".onnx") else "tflite", folder / name))
    return found


def _network(chance: np.random.Generator) -> Network:
    return Network(
        tuple(
            Dense(weight=_weights(chance, before, after), bias=np.zeros(after, np.float32))
            for before, after in pairwise(WIDTHS)
        )
    )


def _weights(chance: np.random.Generator, *shape: int) -> FloatArray:
    return (chance.normal(size=shape) / 32).astype(np.float32)


def _convolutions(chance: np.random.Generator) -> bytes:
    """Four convolutions of stride 2 over a picture of 64 by 64, and a mean."""
    nodes, weights, value = [], [], "image"
    for index, (before, after) in enumerate(pairwise(CHANNELS)):
        weights.append(numpy_helper.from_array(_weights(chance, after, before, 3, 3), f"w{index}"))
        nodes.append(
            helper.make_node(
                "Conv", [value, f"w{index}"], [f"c{index}"], strides=[2, 2], pads=[1] * 4, kernel_shape=[3, 3]
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{index}"], [f"r{index}"]))
        value = f"r{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"]))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", CHANNELS[0], IMAGE, IMAGE])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["rows", CHANNELS[-1], 1, 1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
