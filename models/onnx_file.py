"""Writes a dense network as ONNX: fp32, and int8 in QDQ form by ONNX Runtime's static quantisation."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from models.network import FloatArray, Network

OPSET = 17
IR_VERSION = 8
"""The one that came with opset 17, so that older runtimes open the file too."""

INPUT = "image"
OUTPUT = "probabilities"


def write_onnx(network: Network, *, side: int) -> bytes:
    """The file's bytes: ``image`` FP32 [batch, side, side] → ``probabilities`` FP32 [batch, classes]."""
    classes = network.layers[-1].bias.size
    nodes = [helper.make_node("Flatten", [INPUT], ["pixels"], name="flatten", axis=1)]
    initializers: list[onnx.TensorProto] = []
    value = "pixels"
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        weight, bias = f"dense{index}.weight", f"dense{index}.bias"
        initializers.append(numpy_helper.from_array(layer.weight, weight))
        initializers.append(numpy_helper.from_array(layer.bias, bias))
        result = "logits" if index == last else f"dense{index}.sum"
        nodes.append(helper.make_node("Gemm", [value, weight, bias], [result], name=f"dense{index}"))
        if index < last:
            value = f"dense{index}.out"
            nodes.append(helper.make_node("Relu", [result], [value], name=f"relu{index}"))
    nodes.append(helper.make_node("Softmax", ["logits"], [OUTPUT], name="softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", side, side])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", classes])],
        initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="edgeward",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    payload: bytes = model.SerializeToString(deterministic=True)
    return payload


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no type information
    """Hands the calibration images over in batches."""

    def __init__(self, images: FloatArray, batch: int = 64) -> None:
        self._batches: Iterator[FloatArray] = iter(np.array_split(images, -(-len(images) // batch)))

    def get_next(self) -> dict[str, FloatArray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantize_onnx(float_file: bytes, calibration: FloatArray) -> bytes:
    """Static int8 quantisation (QDQ): int8 weights and activations, ranges from ``calibration``.

    Only the dense layers are quantised. The softmax stays in float, so that confidences keep their resolution.
    Weights use 7 of their 8 bits: without VNNI, x86 adds two products of 8 bits in 16 and would saturate, and
    the same file would then answer differently on two machines.

    Args:
        float_file: bytes written by :func:`write_onnx`.
        calibration: (n, side, side) float32 images that were not trained on.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(float_file)
        level = logging.root.level
        logging.root.setLevel(logging.ERROR)  # it advises shape inference, which these graphs do not need
        try:
            quantize_static(
                source,
                target,
                _Images(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Gemm", "Relu"],
                per_channel=False,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.root.setLevel(level)
        return target.read_bytes()
