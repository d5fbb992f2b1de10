"""Where a model file's weights are, so that they can be changed as training changes them; and its description."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hw_bench.errors import SubjectError

Change = Callable[[NDArray[Any]], NDArray[Any]]
"""A weight tensor, flat (float32 or int8) → the same with other values."""

_LAYER_BYTES = 64
"""A tensor below it is a bias or a scale."""
NOTE = "trained again on 2026-11-28 with 1,204 more images; dataset sha256 4d0c3f7a91be6625"
"""What a changed description says: longer than the one before, so that all that follows moves."""


class Weights(Protocol):
    """A model that can be changed and written again."""

    layers: list[int]
    """Sizes in bytes of the weight tensors, in the order of execution."""

    def changed(self, change: Change, layers: frozenset[int]) -> bytes:
        """The file with ``change`` applied to these layers."""
        ...

    def described(self) -> bytes:
        """The file with another description, longer by some bytes."""
        ...

    def plain(self) -> bytes:
        """The file as this writes it, unchanged: what the others are compared with."""
        ...


def read_weights(path: Path) -> Weights:
    """Raises SubjectError."""
    readers: dict[str, Callable[[bytes], Weights]] = {".onnx": OnnxWeights, ".tflite": TfliteWeights}
    reader = readers.get(path.suffix)
    if reader is None:
        raise SubjectError(f"{path}: neither .onnx nor .tflite")
    return reader(path.read_bytes())


class OnnxWeights:
    """Initializers and constants that nodes take."""

    def __init__(self, data: bytes) -> None:
        import onnx  # noqa: PLC0415 - heavy, and not for TFLite

        self._onnx = onnx
        self._data = data
        self.layers = [len(tensor.raw_data) for tensor in self._tensors(self._model())]

    def plain(self) -> bytes:
        return bytes(self._model().SerializeToString())

    def changed(self, change: Change, layers: frozenset[int]) -> bytes:
        model = self._model()
        kinds = {self._onnx.TensorProto.FLOAT: np.float32, self._onnx.TensorProto.INT8: np.int8}
        for number, tensor in enumerate(self._tensors(model)):
            if number in layers:
                values = np.frombuffer(tensor.raw_data, kinds[tensor.data_type])
                tensor.raw_data = change(values).tobytes()
        return bytes(model.SerializeToString())

    def described(self) -> bytes:
        model = self._model()
        model.doc_string = NOTE
        model.producer_version = f"{model.producer_version}-retrained"
        return bytes(model.SerializeToString())

    def _model(self) -> Any:
        return self._onnx.load_model_from_string(self._data)

    def _tensors(self, model: Any) -> list[Any]:
        """By the first node that takes each; in the main graph, where those of the models measured are."""
        graph = model.graph
        known = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    known[node.output[0]] = attribute.t
        found = {name: known[name] for node in graph.node for name in self._inputs(node) if name in known}
        kinds = (self._onnx.TensorProto.FLOAT, self._onnx.TensorProto.INT8)
        return [
            each for each in found.values() if each.data_type in kinds and len(each.raw_data) >= _LAYER_BYTES
        ]

    def _inputs(self, node: Any) -> Iterator[str]:
        yield from node.input
        for attribute in node.attribute:
            for inner in attribute.g.node:
                yield from self._inputs(inner)


class TfliteWeights:
    """Buffers of the tensors that operators take, changed where they lie in the file."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - not for ONNX

        self._schema = schema
        self._data = self._repacked(data)
        self._places = list(self._find())
        self.layers = [end - start for start, end, _ in self._places]

    def plain(self) -> bytes:
        return self._data

    def changed(self, change: Change, layers: frozenset[int]) -> bytes:
        data = bytearray(self._data)
        for number, (start, end, kind) in enumerate(self._places):
            if number in layers:
                data[start:end] = change(np.frombuffer(self._data[start:end], kind)).tobytes()
        return bytes(data)

    def described(self) -> bytes:
        return self._repacked(self._data, NOTE)

    def _repacked(self, data: bytes, description: str | None = None) -> bytes:
        """Written as a converter does it, from its object form."""
        model = self._schema.ModelT.InitFromObj(self._schema.Model.GetRootAsModel(data, 0))
        if description is not None:
            model.description = description
        builder = self._schema.flatbuffers.Builder(len(data))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _find(self) -> Iterator[tuple[int, int, type]]:
        kinds = {self._schema.TensorType.FLOAT32: np.float32, self._schema.TensorType.INT8: np.int8}
        model = self._schema.Model.GetRootAsModel(self._data, 0)
        seen: set[int] = set()
        # The main graph comes first, and is put last: the others prepare what it keeps.
        for graph in (model.Subgraphs(number) for number in reversed(range(model.SubgraphsLength()))):
            for operator in (graph.Operators(number) for number in range(graph.OperatorsLength())):
                for place in range(operator.InputsLength()):
                    tensor = graph.Tensors(max(0, operator.Inputs(place)))
                    buffer = model.Buffers(tensor.Buffer())
                    values = buffer.DataAsNumpy() if buffer.DataLength() >= _LAYER_BYTES else None
                    if values is None or tensor.Buffer() in seen or tensor.Type() not in kinds:
                        continue
                    if (values == values[0]).all():  # a state before its first step, not weights
                        continue
                    seen.add(tensor.Buffer())
                    start = values.__array_interface__["data"][0] - self._address()
                    yield start, start + len(values), kinds[tensor.Type()]

    def _address(self) -> int:
        address: int = np.frombuffer(self._data, np.uint8).__array_interface__["data"][0]
        return address
