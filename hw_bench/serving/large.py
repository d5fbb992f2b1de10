"""A large input, 600 KiB, in the request's body and by shared memory: same server, same model, same client."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from agent.drift import SignalSpec, build_reference, encode_reference
from agent.runner.backends import Array
from hw_bench.serving.edgeward import EdgewardServer
from hw_bench.serving.model import ServedModel, tensor
from hw_bench.serving.pairs import Sample
from hw_bench.serving.rounds import Effort, measure
from hw_bench.serving.targets import LARGE_BINARY, LARGE_SHARED

BYTES = 600 * 1024
_TAKEN = 10
_OPSET, _IR = 17, 8


def measure_large(effort: Effort, tell: Callable[[str], None]) -> dict[tuple[str, int], list[Sample]]:
    """One client, both ways in turns.

    Raises:
        ServerError: the runner did not start.
        MeasurementError: a request failed.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-bench-large-") as folder:
        model = large_model(Path(folder))
        server = EdgewardServer(model, shared_memory="unix+tcp")
        server.start()
        try:
            routes = [
                model.route(LARGE_BINARY, server.address, "binary"),
                model.route(LARGE_SHARED, server.address, "shared memory"),
            ]
            return measure(routes, effort, tell, clients=(1,))
        finally:
            server.stop()


def large_model(folder: Path) -> ServedModel:
    """A model that looks at ten bytes of its input: what is measured is how the input arrives.

    Its drift reference watches the output, since statistics of 600 KiB would be most of the time either way.
    """
    path, reference = folder / "large.onnx", folder / "reference.json"
    path.write_bytes(_file())
    answers = np.random.default_rng(3).integers(0, 256, (600, _TAKEN)).astype(np.float32)
    reference.write_bytes(_reference({"first": answers}))
    return ServedModel(
        name="large",
        runtime="onnx",
        path=path,
        input=tensor("image", "UINT8", -1, BYTES),
        outputs=(tensor("first", "FP32", -1, _TAKEN),),
        row=bytes(index % 251 for index in range(BYTES)),
        reference=reference,
    )


def _file() -> bytes:
    constants = {"from": [0], "to": [_TAKEN], "axis": [1]}
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", "from", "to", "axis"], ["taken"]),
            helper.make_node("Cast", ["taken"], ["first"], to=TensorProto.FLOAT),
        ],
        "large",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["rows", BYTES])],
        [helper.make_tensor_value_info("first", TensorProto.FLOAT, ["rows", _TAKEN])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    return bytes(model.SerializeToString())


def _reference(outputs: dict[str, Array]) -> bytes:
    """A drift reference that watches every output's confidence; ``outputs``: shape (rows, …), at least 500 rows."""
    specs = [
        SignalSpec(name=f"{name}-confidence", source="output", tensor=name, summary="confidence")
        for name in outputs
    ]
    return encode_reference(build_reference(specs, inputs={}, outputs=outputs, dataset_sha256="0" * 64))
