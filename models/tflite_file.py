"""Writes a dense network as an int8 TFLite flatbuffer, without TensorFlow.

The integer rules are those of the TFLite 8-bit quantization specification
(https://ai.google.dev/edge/litert/models/quantization_spec): weights int8 in [-127, 127] with zero point 0, one
scale a tensor; activations int8 with a zero point; bias int32 with scale ``input scale x weight scale``.
"""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray
from numpy.typing import NDArray

from models.network import Dense, FloatArray, Network
from models.onnx_file import INPUT, OUTPUT

SCHEMA_VERSION = 3
INT8_LOW, INT8_HIGH = -128, 127
WEIGHT_LIMIT = 127
BIAS_LIMIT = 2**30
"""Half of int32, so that the sum of products has room beside the bias."""
SMALLEST_SPAN = 1e-9

# Operator version that knows int8, from TFLite's op_version.cc.
_VERSIONS = {
    schema.BuiltinOperator.QUANTIZE: 1,
    schema.BuiltinOperator.RESHAPE: 1,
    schema.BuiltinOperator.FULLY_CONNECTED: 4,
    schema.BuiltinOperator.DEQUANTIZE: 2,
    schema.BuiltinOperator.SOFTMAX: 1,
}


@dataclass(frozen=True, slots=True)
class Scale:
    """``real = scale x (quantised - zero_point)``."""

    scale: float
    zero_point: int


def activation_scale(values: FloatArray) -> Scale:
    """int8 scale and zero point whose range holds ``values`` and, exactly, zero."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    # A layer that is dead on all of the data still needs a scale that its neighbours can compute with.
    span = high - low if high - low > SMALLEST_SPAN else 1.0
    scale = span / (INT8_HIGH - INT8_LOW)
    return Scale(scale=scale, zero_point=round(INT8_LOW - low / scale))


def weight_scale(layer: Dense, before: Scale) -> Scale:
    """Symmetric int8 scale of a layer's weights, large enough that its bias fits int32 beside ``before``."""
    for_weight = float(np.abs(layer.weight).max()) / WEIGHT_LIMIT
    for_bias = float(np.abs(layer.bias).max()) / before.scale / BIAS_LIMIT
    return Scale(scale=max(for_weight, for_bias, SMALLEST_SPAN), zero_point=0)


def write_tflite(network: Network, *, side: int, calibration: FloatArray) -> bytes:
    """The file's bytes: ``image`` FP32 [batch, side, side] → ``probabilities`` FP32 [batch, classes].

    The image is quantised by the first operator; every dense layer computes in integers; the softmax is in float,
    as in the ONNX file, so that one drift reference fits both.

    Args:
        network: the float network.
        side: height and width of an image.
        calibration: (n, side, side) float32 images that were not trained on; they give the activations' ranges.
    """
    rows = calibration.reshape(len(calibration), -1)
    scales = [activation_scale(rows), *(activation_scale(values) for values in network.trace(rows))]
    graph = _Graph()
    image = graph.tensor(INPUT, (side, side), schema.TensorType.FLOAT32)
    quantised = graph.tensor("image.int8", (side, side), schema.TensorType.INT8, scales[0])
    graph.node(
        schema.BuiltinOperator.QUANTIZE, [image], quantised, "QuantizeOptions", schema.QuantizeOptionsT()
    )
    value = graph.reshape(quantised, side * side, scales[0])
    for index, layer in enumerate(network.layers):
        is_last = index == len(network.layers) - 1
        value = graph.dense(index, layer, value, scales[index], scales[index + 1], relu=not is_last)
    classes = network.layers[-1].bias.size
    logits = graph.tensor("logits", (classes,), schema.TensorType.FLOAT32)
    graph.node(
        schema.BuiltinOperator.DEQUANTIZE, [value], logits, "DequantizeOptions", schema.DequantizeOptionsT()
    )
    output = graph.tensor(OUTPUT, (classes,), schema.TensorType.FLOAT32)
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.node(schema.BuiltinOperator.SOFTMAX, [logits], output, "SoftmaxOptions", softmax)
    return graph.finish(image, output)


class _Graph:
    """Collects tensors, buffers and operators of one subgraph; every activation has an open batch axis."""

    def __init__(self) -> None:
        self._tensors: list[schema.TensorT] = []
        self._buffers: list[schema.BufferT] = [schema.BufferT()]  # buffer 0 is empty by convention
        self._operators: list[schema.OperatorT] = []
        self._codes: list[int] = []

    def tensor(self, name: str, row: tuple[int, ...], kind: int, scale: Scale | None = None) -> int:
        """An activation of shape (batch, *row); gives its index."""
        tensor = schema.TensorT()
        tensor.name, tensor.type = name, kind
        tensor.shape, tensor.shapeSignature = [1, *row], [-1, *row]
        tensor.quantization = _quantisation(scale) if scale else None
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(
        self, name: str, values: NDArray[np.int8] | NDArray[np.int32], kind: int, scale: Scale | None = None
    ) -> int:
        """A tensor whose values stand in the file; gives its index."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
        self._buffers.append(buffer)
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.shape = name, kind, list(values.shape)
        tensor.buffer = len(self._buffers) - 1
        tensor.quantization = _quantisation(scale) if scale else None
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def reshape(self, value: int, width: int, scale: Scale) -> int:
        shape = self.constant("pixels.shape", np.array([-1, width], "<i4"), schema.TensorType.INT32)
        result = self.tensor("pixels", (width,), schema.TensorType.INT8, scale)
        options = schema.ReshapeOptionsT()
        options.newShape = [-1, width]
        self.node(schema.BuiltinOperator.RESHAPE, [value, shape], result, "ReshapeOptions", options)
        return result

    def dense(self, index: int, layer: Dense, value: int, before: Scale, after: Scale, *, relu: bool) -> int:
        scale = weight_scale(layer, before)
        weight = np.clip(np.rint(layer.weight.T / scale.scale), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
        sums = Scale(scale=before.scale * scale.scale, zero_point=0)
        bias = np.rint(layer.bias.astype(np.float64) / sums.scale).astype("<i4")
        name = f"dense{index}"
        weight_at = self.constant(f"{name}.weight", weight, schema.TensorType.INT8, scale)
        bias_at = self.constant(f"{name}.bias", bias, schema.TensorType.INT32, sums)
        result = self.tensor(f"{name}.out", (layer.bias.size,), schema.TensorType.INT8, after)
        options = schema.FullyConnectedOptionsT()
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        inputs = [value, weight_at, bias_at]
        self.node(schema.BuiltinOperator.FULLY_CONNECTED, inputs, result, "FullyConnectedOptions", options)
        return result

    def node(self, code: int, inputs: list[int], output: int, kind: str, options: object) -> None:
        if code not in self._codes:
            self._codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        self._operators.append(operator)

    def finish(self, image: int, output: int) -> bytes:
        subgraph = schema.SubGraphT()
        subgraph.name = "classifier"
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = [image], [output]
        model = schema.ModelT()
        model.version, model.description = SCHEMA_VERSION, "edgeward"
        model.operatorCodes = [_operator_code(code) for code in self._codes]
        model.subgraphs, model.buffers = [subgraph], self._buffers
        return bytes(convert_object_to_bytearray(model))


def _operator_code(code: int) -> schema.OperatorCodeT:
    result = schema.OperatorCodeT()
    result.builtinCode = code
    # Readers older than schema 3a know codes of one byte only; all that are used here fit.
    result.deprecatedBuiltinCode = code
    result.version = _VERSIONS[code]
    return result


def _quantisation(scale: Scale) -> schema.QuantizationParametersT:
    result = schema.QuantizationParametersT()
    result.scale, result.zeroPoint = [scale.scale], [scale.zero_point]
    return result
