"""Changes of model files, bytes in and bytes out, that leave the file valid and its form unchanged."""

from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import (
    convert_bytearray_to_object,
    convert_object_to_bytearray,
)
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.errors import UnsupportedGraphError

DELAY_SIDE = 256
"""The delay multiplies matrices of this size: 256 KiB each, so memory stays bounded however long it takes."""


def swap_onnx_classes(payload: bytes, first: int, second: int) -> bytes:
    """Exchange two output classes of the last ``Gemm``, float or QDQ.

    Raises:
        UnsupportedGraphError: there is no ``Gemm`` whose weight and bias stand in the file.
    """
    model = onnx.load_from_string(payload)
    gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
    if not gemms:
        raise UnsupportedGraphError("ONNX file: no Gemm node to swap the output classes of")
    last = gemms[-1]
    transposed = any(item.name == "transB" and item.i for item in last.attribute)
    for name, axis in ((last.input[1], 0 if transposed else 1), (last.input[2], 0)):
        tensor = _initializer(model.graph, name)
        values = _swapped(numpy_helper.to_array(tensor), first, second, axis)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    result: bytes = model.SerializeToString(deterministic=True)
    return result


def _initializer(graph: onnx.GraphProto, name: str) -> onnx.TensorProto:
    """The stored tensor behind ``name``, through a ``DequantizeLinear`` if there is one."""
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and name in node.output:
            name = node.input[0]
    found: list[onnx.TensorProto] = [tensor for tensor in graph.initializer if tensor.name == name]
    if found:
        return found[0]
    raise UnsupportedGraphError(f"ONNX file: tensor {name!r} of the last Gemm is not stored in the file")


def swap_tflite_classes(payload: bytes, first: int, second: int) -> bytes:
    """Exchange two output classes of the last ``FULLY_CONNECTED``, int8 or float.

    Raises:
        UnsupportedGraphError: there is no such operator.
    """
    model = convert_bytearray_to_object(payload)
    graph = model.subgraphs[0]
    dense = [
        operator
        for operator in graph.operators
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED
    ]
    if not dense:
        raise UnsupportedGraphError("TFLite file: no FULLY_CONNECTED operator to swap the output classes of")
    for index in dense[-1].inputs[1:3]:
        tensor = graph.tensors[index]
        buffer = model.buffers[tensor.buffer]
        rows = np.asarray(buffer.data, dtype=np.uint8).reshape(tensor.shape[0], -1)
        buffer.data = _swapped(rows, first, second, 0).reshape(-1)
    return bytes(convert_object_to_bytearray(model))


def _swapped(values: NDArray[Any], first: int, second: int, axis: int) -> NDArray[Any]:
    order = np.arange(values.shape[axis])
    order[[first, second]] = order[[second, first]]
    return np.ascontiguousarray(np.take(values, order, axis=axis))


def delay_onnx(payload: bytes, *, rounds: int) -> bytes:
    """Add ``rounds`` products of matrices whose result, times zero, is added to the only output.

    The first matrix is made of the output itself, so that no optimiser can compute it beforehand; ``tanh`` keeps
    every element within 1, so that zero times the result is zero.

    Raises:
        UnsupportedGraphError: the graph has not exactly one output.
    """
    model = onnx.load_from_string(payload)
    graph = model.graph
    if len(graph.output) != 1:
        raise UnsupportedGraphError(f"ONNX file: {len(graph.output)} outputs, a delay needs exactly one")
    name, fast = graph.output[0].name, f"{graph.output[0].name}.fast"
    for node in graph.node:
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = fast
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([DELAY_SIDE, DELAY_SIDE], np.int64), "delay.shape"),
            numpy_helper.from_array(np.array(rounds, np.int64), "delay.rounds"),
            numpy_helper.from_array(np.array(True), "delay.go"),
            numpy_helper.from_array(np.array(0, np.float32), "delay.nothing"),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [fast], ["delay.seed"], name="delay.seed", keepdims=0),
            helper.make_node("Expand", ["delay.seed", "delay.shape"], ["delay.first"], name="delay.first"),
            helper.make_node(
                "Loop",
                ["delay.rounds", "delay.go", "delay.first"],
                ["delay.last"],
                name="delay",
                body=_round(),
            ),
            helper.make_node("ReduceMean", ["delay.last"], ["delay.mean"], name="delay.mean", keepdims=0),
            helper.make_node("Mul", ["delay.mean", "delay.nothing"], ["delay.zero"], name="delay.zero"),
            helper.make_node("Add", [fast, "delay.zero"], [name], name="delay.add"),
        ]
    )
    onnx.checker.check_model(model, full_check=True)
    result: bytes = model.SerializeToString(deterministic=True)
    return result


def _round() -> onnx.GraphProto:
    side = [DELAY_SIDE, DELAY_SIDE]
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["delay.in", "delay.in"], ["delay.product"]),
            helper.make_node("Tanh", ["delay.product"], ["delay.out"]),
            helper.make_node("Identity", ["delay.go.in"], ["delay.go.out"]),
        ],
        "delay.round",
        [
            value("delay.round.index", TensorProto.INT64, []),
            value("delay.go.in", TensorProto.BOOL, []),
            value("delay.in", TensorProto.FLOAT, side),
        ],
        [value("delay.go.out", TensorProto.BOOL, []), value("delay.out", TensorProto.FLOAT, side)],
    )
