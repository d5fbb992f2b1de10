"""Tiny models in both file formats, made here byte by byte: ``y = x · WEIGHT + BIAS``."""

from collections.abc import Sequence

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.protocol.manifest import Datatype, TensorSpec

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 8 - 0.5
BIAS = np.array([0.25, -1.0, 0.5], dtype=np.float32)
INPUTS = (TensorSpec(name="x", datatype="FP32", shape=(-1, 4)),)
OUTPUTS = (TensorSpec(name="y", datatype="FP32", shape=(-1, 3)),)

INPUT_SCALE, INPUT_ZERO = 1 / 32, 5
OUTPUT_SCALE, OUTPUT_ZERO = 1 / 16, -7

OPSET, IR = 17, 8


def expected(x: NDArray[np.float32]) -> NDArray[np.floating]:
    return x @ WEIGHT + BIAS


def spec(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def onnx_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    domains: Sequence[str] = (),
) -> bytes:
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR)
    return bytes(model.SerializeToString())


def onnx_linear(weight: onnx.TensorProto | None = None) -> bytes:
    return onnx_bytes(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [weight or numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(BIAS, "b")],
    )


def onnx_unary(operator: str, element_type: int = TensorProto.FLOAT) -> bytes:
    """``y = operator(x)``, both [rows, 4] of one element type."""
    return onnx_bytes(
        [helper.make_node(operator, ["x"], ["y"])],
        [helper.make_tensor_value_info("x", element_type, ["rows", 4])],
        [helper.make_tensor_value_info("y", element_type, ["rows", 4])],
    )


def onnx_busy(iterations: int | None) -> bytes:
    """``y = x`` after so many turns of a ``Loop`` with a small product in it, about a microsecond each; None: as many as
    ``x[0, 0]`` says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("MatMul", ["state", "square"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["rows", 4]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["rows", 4]),
        ],
    )
    count = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["turns"], to=TensorProto.INT64),
    ]
    weights = [
        numpy_helper.from_array(np.eye(4, dtype=np.float32), "square"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    if iterations is not None:
        count = []
        weights.append(numpy_helper.from_array(np.array(iterations, np.int64), "turns"))
    return onnx_bytes(
        [*count, helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        weights,
    )


def onnx_endless_loop() -> bytes:
    """A ``Loop`` without a trip count whose condition stays true, in few bytes: loads, and never ends a run."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])],
        "b",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    return onnx_bytes(
        [helper.make_node("Loop", ["", "t", "x"], ["y"], body=body)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [numpy_helper.from_array(np.array(True), "t")],
    )


def onnx_allocation_bomb(gibibytes: int, *, while_loading: bool) -> bytes:
    """``y = x`` plus the largest of at least that much memory full of zeros.

    ``while_loading``: a constant is joined to itself again and again, and the optimiser does it before any run (it
    leaves the operators alone whose result it knows to be large); else a run allocates it in one piece.
    """
    noughts = numpy_helper.from_array(np.zeros(1, np.float32), "t0")
    weights = [noughts]
    if while_loading:
        doublings = 28 + (gibibytes - 1).bit_length()
        nodes = [
            helper.make_node("Concat", [f"t{turn}"] * 2, [f"t{turn + 1}"], axis=0)
            for turn in range(doublings)
        ]
        big = f"t{doublings}"
    else:
        weights.append(numpy_helper.from_array(np.array([gibibytes, 2**28]), "size"))
        nodes, big = [helper.make_node("Expand", ["t0", "size"], ["big"])], "big"
    return onnx_bytes(
        [
            *nodes,
            helper.make_node("ReduceMax", [big], ["most"], keepdims=0),
            helper.make_node("Add", ["x", "most"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        weights,
    )


def onnx_gather() -> bytes:
    """``y = table[x]`` with INT64 indices: one out of range fails at run time."""
    return onnx_bytes(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(np.array([10.0, 20.0], np.float32), "table")],
    )


def tflite_linear(*, quantized: bool = False) -> bytes:
    """One fully connected layer; batch fixed at 1, as converters write it. ``quantized``: int8 inputs and outputs."""
    model, buffers = schema.ModelT(), [schema.BufferT()]
    model.version = 3
    weight, bias = WEIGHT.T.copy(), BIAS
    weight_scale = 1.0
    if quantized:
        weight_scale = float(np.abs(WEIGHT).max() / 127)
        weight = np.rint(weight / weight_scale).astype(np.int8)
        bias = np.rint(BIAS / (weight_scale * INPUT_SCALE)).astype(np.int32)
    for array in (weight, bias):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        buffers.append(buffer)
    kind = schema.TensorType.INT8 if quantized else schema.TensorType.FLOAT32
    bias_kind = schema.TensorType.INT32 if quantized else schema.TensorType.FLOAT32
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("x", kind, [1, 4], 0, (INPUT_SCALE, INPUT_ZERO) if quantized else None),
        _tensor("w", kind, [3, 4], 1, (weight_scale, 0) if quantized else None),
        _tensor("b", bias_kind, [3], 2, (weight_scale * INPUT_SCALE, 0) if quantized else None),
        _tensor("y", kind, [1, 3], 0, (OUTPUT_SCALE, OUTPUT_ZERO) if quantized else None),
    ]
    graph.inputs, graph.outputs = [0], [3]
    graph.operators = [_fully_connected()]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4 if quantized else 1
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], buffers
    return bytes(convert_object_to_bytearray(model))


def _fully_connected() -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.builtinOptions = schema.FullyConnectedOptionsT()
    return operator


def _tensor(
    name: str, kind: int, shape: list[int], buffer: int, quantization: tuple[float, int] | None
) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.type, tensor.shape, tensor.buffer = name, kind, shape, buffer
    if quantization is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [quantization[0]], [quantization[1]]
    return tensor
