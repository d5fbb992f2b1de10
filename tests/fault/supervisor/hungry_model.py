"""A valid model that takes as much memory as a request tells it to."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.contract.runner import tiny_models as tiny


def hungry() -> bytes:
    """``y = x`` + the sum of as many MiB of zeros as ``x[0, 0]`` says."""
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
    return tiny.onnx_bytes(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Mul", ["most", "floats"], ["many"]),
            helper.make_node("Cast", ["many"], ["count"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["count", "one"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["mass"], value=zero),
            helper.make_node("ReduceSum", ["mass"], ["nothing"], keepdims=0),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 4])],
        [
            numpy_helper.from_array(np.array(1 << 18, np.float32), "floats"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ],
    )
