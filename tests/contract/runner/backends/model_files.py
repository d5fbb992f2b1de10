"""The model files of the conformance suite, by name; ``python -m tests.contract.runner.backends.model_files FOLDER``
writes them, for an environment that can run models but not make them."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = "EDGEWARD_MODEL_FILES"
"""Environment variable: where the files lie; without it they are made when asked for."""


def content(name: str) -> bytes:
    """The file ``<runtime>.<what>``."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        return (Path(folder) / name).read_bytes()
    return _makers()[name]()


def write_all(folder: Path) -> None:
    for name, make in _makers().items():
        (folder / name).write_bytes(make())


SCALES = {"INT8": (1 / 32, 5), "UINT8": (1 / 50, 128), "INT16": (1 / 4096, 0)}
"""Scale and zero point of the quantized copies."""

PREFIXED = (
    "serving_default_a:0",
    "serving_default_b:0",
    "sum:0",
    "difference:0",
)
OPAQUE = ("t0", "t1", "t2", "t3")


def _makers() -> dict[str, Callable[[], bytes]]:
    return {**_onnx_makers(), **_tflite_makers()}


def _onnx_makers() -> dict[str, Callable[[], bytes]]:
    from tests.contract.runner import tiny_models as tiny
    from tests.contract.runner import tiny_onnx as made

    return {
        "onnx.linear": tiny.onnx_linear,
        "onnx.linear-int8": made.linear_int8,
        "onnx.heavy": partial(made.linear, *_heavy()),
        "onnx.pair": made.sum_and_difference,
        "onnx.gather": tiny.onnx_gather,
        "onnx.endless": tiny.onnx_endless_loop,
        "onnx.broken-text": made.broken_text,
        **{f"onnx.copy-{datatype}": partial(made.copy, datatype) for datatype in made.KINDS},
    }


def _tflite_makers() -> dict[str, Callable[[], bytes]]:
    from tests.contract.runner import tiny_models as tiny
    from tests.contract.runner import tiny_tflite as made

    return {
        "tflite.linear": tiny.tflite_linear,
        "tflite.linear-int8": lambda: tiny.tflite_linear(quantized=True),
        "tflite.heavy": partial(made.linear, *_heavy()),
        "tflite.pair": made.sum_and_difference,
        "tflite.pair-prefixed": partial(made.sum_and_difference, PREFIXED),
        "tflite.pair-signed": partial(made.sum_and_difference, OPAQUE, ["serve"]),
        "tflite.pair-signed-twice": partial(made.sum_and_difference, OPAQUE, ["serve", "train"]),
        "tflite.pair-same-names": partial(made.sum_and_difference, ("a", "a", "sum", "sum")),
        "tflite.custom": partial(made.custom_operator, "Evil"),
        "tflite.external": made.external_buffers,
        "tflite.beyond": made.buffer_beyond_the_end,
        **{f"tflite.copy-{datatype}": partial(made.copy, datatype) for datatype in made.KINDS},
        **{
            f"tflite.quantized-{datatype}": partial(made.copy, datatype, [scale])
            for datatype, scale in SCALES.items()
        },
        "tflite.quantized-by-axis": partial(made.copy, "INT8", [(0.5, 0), (0.25, 0), (0.5, 0), (1.0, 0)]),
        "tflite.quantized-by-nought": partial(made.copy, "INT8", [(0.0, 0)]),
        "tflite.quantized-INT32": partial(made.copy, "INT32", [(0.5, 0)]),
    }


def _heavy() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return np.full((1024, 1024), 2.0**-10, np.float32), np.zeros(1024, np.float32)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
