"""More tiny ONNX files, for the conformance suite of the backends."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.contract.runner import tiny_models as tiny

KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def _value(name: str, columns: int = 4, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", columns])


def copy(datatype: str) -> bytes:
    """``y = x``, both [rows, 4] of one data type."""
    return tiny.onnx_unary("Identity", KINDS[datatype])


def linear(weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
    """``y = x · weight + bias``."""
    rows, columns = weight.shape
    return tiny.onnx_bytes(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [_value("x", rows)],
        [_value("y", columns)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )


def linear_int8() -> bytes:
    """:func:`tiny.onnx_linear` in integers: the input is quantized, multiplied, and scaled back."""
    scale = float(np.abs(tiny.WEIGHT).max() / 127)
    weight = np.rint(tiny.WEIGHT / scale).astype(np.int8)
    constants = {
        "scale": np.float32(tiny.INPUT_SCALE),
        "zero": np.int8(tiny.INPUT_ZERO),
        "back": np.float32(tiny.INPUT_SCALE * scale),
        "w": weight,
        "b": tiny.BIAS,
    }
    return tiny.onnx_bytes(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
            helper.make_node("MatMulInteger", ["xq", "w", "zero"], ["sums"]),
            helper.make_node("Cast", ["sums"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["real", "back"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["y"]),
        ],
        [_value("x")],
        [_value("y", 3)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )


def sum_and_difference() -> bytes:
    """``sum = a + b`` and ``difference = a - b``."""
    return tiny.onnx_bytes(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        [_value("a"), _value("b")],
        [_value("sum"), _value("difference")],
    )


def broken_text() -> bytes:
    """``y`` is ``x`` and one more row, in which a string is no UTF-8."""
    constant = TensorProto()
    constant.name, constant.data_type = "c", TensorProto.STRING
    constant.dims.extend([1, 4])
    constant.string_data.extend([b"\xff\xfe", b"a", b"b", b"c"])
    return tiny.onnx_bytes(
        [helper.make_node("Concat", ["x", "c"], ["y"], axis=0)],
        [_value("x", kind=TensorProto.STRING)],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["more", 4])],
        [constant],
    )


def reads_another_file(location: str) -> bytes:
    """``y = x + w`` where ``w``, [1, 4] FP32, lies in the file ``location``."""
    weight = TensorProto()
    weight.name, weight.data_type, weight.data_location = "w", TensorProto.FLOAT, TensorProto.EXTERNAL
    weight.dims.extend([1, 4])
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    return tiny.onnx_bytes(
        [helper.make_node("Add", ["x", "w"], ["y"])], [_value("x")], [_value("y")], [weight]
    )
