"""Tiny TFLite files, made with the schema classes of ``ai-edge-litert``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray
from numpy.typing import NDArray

KINDS = {
    "BOOL": schema.TensorType.BOOL,
    "UINT8": schema.TensorType.UINT8,
    "UINT16": schema.TensorType.UINT16,
    "UINT32": schema.TensorType.UINT32,
    "UINT64": schema.TensorType.UINT64,
    "INT8": schema.TensorType.INT8,
    "INT16": schema.TensorType.INT16,
    "INT32": schema.TensorType.INT32,
    "INT64": schema.TensorType.INT64,
    "FP16": schema.TensorType.FLOAT16,
    "FP32": schema.TensorType.FLOAT32,
    "FP64": schema.TensorType.FLOAT64,
    "BYTES": schema.TensorType.STRING,
}
_CUSTOM = schema.BuiltinOperator.CUSTOM


class Graph:
    """One subgraph; tensors and operators are numbered as they come."""

    def __init__(self, model: "Model") -> None:
        self._model = model
        self.made = schema.SubGraphT()
        self.made.tensors, self.made.operators = [], []
        self.made.inputs, self.made.outputs = [], []

    def tensor(
        self,
        name: str,
        datatype: str,
        shape: Sequence[int],
        *,
        data: NDArray[Any] | None = None,
        scales: Sequence[tuple[float, int]] = (),
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape = name, KINDS[datatype], list(shape)
        tensor.buffer = 0 if data is None else self._model.buffer(data)
        if scales:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = [scale for scale, _ in scales]
            tensor.quantization.zeroPoint = [zero for _, zero in scales]
        self.made.tensors.append(tensor)
        return len(self.made.tensors) - 1

    def node(
        self,
        builtin: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, object] | None = None,
        *,
        version: int = 1,
        custom: str | None = None,
    ) -> None:
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.opcodeIndex = self._model.code(builtin, version, custom)
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options[0])
            operator.builtinOptions = options[1]
        self.made.operators.append(operator)

    def reshape(self, source: int, target: int, columns: int) -> None:
        shape = self.tensor("shape", "INT32", [2], data=np.array([-1, columns], np.int32))
        options = schema.ReshapeOptionsT()
        options.newShape = [-1, columns]
        self.node(schema.BuiltinOperator.RESHAPE, [source, shape], [target], ("ReshapeOptions", options))


class Model:
    """A file in the making."""

    def __init__(self) -> None:
        self.made = schema.ModelT()
        self.made.version = 3
        self.made.buffers, self.made.subgraphs, self.made.operatorCodes = [schema.BufferT()], [], []

    def graph(self) -> Graph:
        graph = Graph(self)
        self.made.subgraphs.append(graph.made)
        return graph

    def buffer(self, data: NDArray[Any]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        self.made.buffers.append(buffer)
        return len(self.made.buffers) - 1

    def code(self, builtin: int, version: int, custom: str | None) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = builtin, version
        code.deprecatedBuiltinCode = min(builtin, 127)
        code.customCode = custom
        self.made.operatorCodes.append(code)
        return len(self.made.operatorCodes) - 1

    def sign(self, key: str, inputs: dict[str, int], outputs: dict[str, int], graph: int = 0) -> None:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, graph
        signature.inputs, signature.outputs = _map(inputs), _map(outputs)
        self.made.signatureDefs = [*(self.made.signatureDefs or []), signature]

    def content(self) -> bytes:
        return bytes(convert_object_to_bytearray(self.made))


def _map(tensors: dict[str, int]) -> list[Any]:
    entries = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries


def copy(datatype: str, scales: Sequence[tuple[float, int]] = ()) -> bytes:
    """``y = x``, both [1, 4] of one data type, with a scale or without."""
    model = Model()
    graph = model.graph()
    x = graph.tensor("x", datatype, [1, 4], scales=scales)
    y = graph.tensor("y", datatype, [1, 4], scales=scales)
    graph.reshape(x, y, 4)
    graph.made.inputs, graph.made.outputs = [x], [y]
    return model.content()


def linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """``y = x · weight + bias``."""
    model = Model()
    graph = model.graph()
    rows, columns = weight.shape
    x = graph.tensor("x", "FP32", [1, rows])
    w = graph.tensor("w", "FP32", [columns, rows], data=np.ascontiguousarray(weight.T))
    b = graph.tensor("b", "FP32", [columns], data=bias)
    y = graph.tensor("y", "FP32", [1, columns])
    options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
    graph.node(schema.BuiltinOperator.FULLY_CONNECTED, [x, w, b], [y], options)
    graph.made.inputs, graph.made.outputs = [x], [y]
    return model.content()


def sum_and_difference(
    names: tuple[str, str, str, str] = ("a", "b", "sum", "difference"),
    signatures: Sequence[str] = (),
) -> bytes:
    """``sum = a + b`` and ``difference = a - b``, all [1, 4].

    Args:
        names: of the tensors in the graph.
        signatures: keys of signatures, each of which calls them a, b, sum and difference.
    """
    model = Model()
    graph = model.graph()
    a, b, total, rest = (graph.tensor(name, "FP32", [1, 4]) for name in names)
    builtin = schema.BuiltinOperator
    graph.node(builtin.ADD, [a, b], [total], ("AddOptions", schema.AddOptionsT()))
    graph.node(builtin.SUB, [a, b], [rest], ("SubOptions", schema.SubOptionsT()))
    graph.made.inputs, graph.made.outputs = [a, b], [total, rest]
    for key in signatures:
        model.sign(key, {"a": a, "b": b}, {"sum": total, "difference": rest})
    return model.content()


def custom_operator(name: str) -> bytes:
    """``y = x`` through an operator that no library has."""
    model = Model()
    graph = model.graph()
    x, y = graph.tensor("x", "FP32", [1, 4]), graph.tensor("y", "FP32", [1, 4])
    graph.node(_CUSTOM, [x], [y], custom=name)
    graph.made.inputs, graph.made.outputs = [x], [y]
    return model.content()


def endless_loop() -> bytes:
    """A ``WHILE`` whose condition stays true: loads, and never ends a run."""
    model = Model()
    main, condition, body = model.graph(), model.graph(), model.graph()
    x, y = main.tensor("x", "FP32", [1, 4]), main.tensor("y", "FP32", [1, 4])
    options = schema.WhileOptionsT()
    options.condSubgraphIndex, options.bodySubgraphIndex = 1, 2
    main.node(schema.BuiltinOperator.WHILE, [x], [y], ("WhileOptions", options))
    main.made.inputs, main.made.outputs = [x], [y]
    # always = (all of v = v): a constant alone would not do, a condition's output must be computed.
    v = condition.tensor("v", "FP32", [1, 4])
    same = condition.tensor("same", "BOOL", [1, 4])
    axes = condition.tensor("axes", "INT32", [2], data=np.array([0, 1], np.int32))
    always = condition.tensor("always", "BOOL", [])
    condition.node(schema.BuiltinOperator.EQUAL, [v, v], [same], ("EqualOptions", schema.EqualOptionsT()))
    condition.node(
        schema.BuiltinOperator.REDUCE_ANY,
        [same, axes],
        [always],
        ("ReducerOptions", schema.ReducerOptionsT()),
    )
    condition.made.inputs, condition.made.outputs = [v], [always]
    w, moved = body.tensor("w", "FP32", [1, 4]), body.tensor("moved", "FP32", [1, 4])
    body.node(schema.BuiltinOperator.ABS, [w], [moved], ("AbsOptions", schema.AbsOptionsT()))
    body.made.inputs, body.made.outputs = [w], [moved]
    return model.content()


def allocation_bomb(gibibytes: int) -> bytes:
    """``y = 0`` of that much memory, filled when it runs."""
    model = Model()
    graph = model.graph()
    x = graph.tensor("x", "FP32", [1, 4])
    size = graph.tensor("size", "INT32", [2], data=np.array([gibibytes, 2**28], np.int32))
    value = graph.tensor("value", "FP32", [], data=np.zeros((), np.float32))
    big = graph.tensor("big", "FP32", [gibibytes, 2**28])
    least = graph.tensor("least", "FP32", [])
    axes = graph.tensor("axes", "INT32", [2], data=np.array([0, 1], np.int32))
    y = graph.tensor("y", "FP32", [1, 4])
    builtin = schema.BuiltinOperator
    graph.node(builtin.FILL, [size, value], [big], ("FillOptions", schema.FillOptionsT()))
    graph.node(builtin.REDUCE_MAX, [big, axes], [least], ("ReducerOptions", schema.ReducerOptionsT()))
    graph.node(builtin.ADD, [x, least], [y], ("AddOptions", schema.AddOptionsT()))
    graph.made.inputs, graph.made.outputs = [x], [y]
    return model.content()


def external_buffers() -> bytes:
    """``y = x``, with a group of buffers in another file."""
    model = Model()
    graph = model.graph()
    x, y = graph.tensor("x", "FP32", [1, 4]), graph.tensor("y", "FP32", [1, 4])
    graph.reshape(x, y, 4)
    graph.made.inputs, graph.made.outputs = [x], [y]
    model.made.externalBufferGroups = [schema.ExternalBufferGroupT()]
    return model.content()


def buffer_beyond_the_end() -> bytes:
    """``y = x + w`` where ``w`` is said to lie far behind the file's end, as in files of more than 2 GiB."""
    model = Model()
    graph = model.graph()
    x, y = graph.tensor("x", "FP32", [1, 4]), graph.tensor("y", "FP32", [1, 4])
    w = graph.tensor("w", "FP32", [1, 4], data=np.zeros(4, np.float32))
    graph.node(schema.BuiltinOperator.ADD, [x, w], [y], ("AddOptions", schema.AddOptionsT()))
    graph.made.inputs, graph.made.outputs = [x], [y]
    buffer = model.made.buffers[-1]
    buffer.data, buffer.offset, buffer.size = None, 2**33, 16
    return model.content()


def dynamic_range(weight: NDArray[np.float32]) -> bytes:
    """``y = x · weight`` with FP32 inputs and INT8 weights of one scale a column, as a converter's dynamic range makes them."""
    model = Model()
    graph = model.graph()
    rows, columns = weight.shape
    scales = np.abs(weight).max(axis=0) / 127
    stored = np.rint(weight / scales).astype(np.int8).T
    x = graph.tensor("x", "FP32", [1, rows])
    w = graph.tensor(
        "w", "INT8", [columns, rows], data=stored, scales=[(float(scale), 0) for scale in scales]
    )
    y = graph.tensor("y", "FP32", [1, columns])
    options = ("FullyConnectedOptions", schema.FullyConnectedOptionsT())
    graph.node(schema.BuiltinOperator.FULLY_CONNECTED, [x, w, -1], [y], options, version=9)
    graph.made.inputs, graph.made.outputs = [x], [y]
    return model.content()
