"""TensorFlow Lite through LiteRT (``ai-edge-litert``), or ``tflite-runtime`` where only that is installed.

A file with integer inputs or outputs serves a manifest that declares FP32: values are quantized and dequantized
here, ``q = round(x / scale) + zero_point`` and ``x = (q - zero_point) · scale`` (TFLite's 8-bit quantization
specification), saturating at the integer type's ends; NaN becomes the zero point.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    _PACKAGE = "ai-edge-litert"
except ImportError:
    from tflite_runtime.interpreter import Interpreter

    _PACKAGE = "tflite-runtime"

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import FileTensor, check_datatype, check_names, check_shape
from agent.runner.backends.datatypes import DTYPES, Array, datatype_of
from agent.runner.backends.errors import ContractMismatchError, InferenceError, UnreadableModelError
from agent.runner.backends.tflite_file import check_tflite_file

Convert = Callable[[Array], Array]


class TfliteBackend:
    """One interpreter; a new batch size re-plans its memory."""

    def __init__(
        self, content: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> None:
        check_tflite_file(content)
        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UnreadableModelError(f"{library()} does not load the file: {error}") from error
        self._specs = {spec.name: spec for spec in inputs}
        self._inputs = _bind("input", inputs, self._interpreter.get_input_details(), _quantizer)
        self._outputs = _bind("output", outputs, self._interpreter.get_output_details(), _dequantizer)
        self._planned = {name: shape for name, (_, shape, _) in self._inputs.items()}

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :class:`agent.runner.backends.base.Backend`."""
        interpreter = self._interpreter
        try:
            if any(inputs[name].shape != shape for name, shape in self._planned.items()):
                self._plan(inputs)
            for name, (index, _, convert) in self._inputs.items():
                interpreter.set_tensor(index, convert(inputs[name]))
            interpreter.invoke()
            return {
                name: convert(interpreter.get_tensor(index))
                for name, (index, _, convert) in self._outputs.items()
            }
        except (KeyError, ValueError, RuntimeError) as error:
            raise InferenceError(f"{library()}: {error}") from error

    def describe(self) -> str:
        """Library and version."""
        return library()

    def _plan(self, inputs: Mapping[str, Array]) -> None:
        shapes = {name: inputs[name].shape for name in self._inputs}
        for name, shape in shapes.items():
            if not _fits(self._specs[name].shape, shape):
                raise InferenceError(
                    f"input {name!r}: expected shape {list(self._specs[name].shape)}, got {list(shape)}"
                )
        # Unknown until the interpreter has agreed, so that a failure is not taken for a plan.
        self._planned = dict.fromkeys(shapes, ())
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name][0], list(shape))
        self._interpreter.allocate_tensors()
        self._planned = shapes


def library() -> str:
    """Name and version of the library, for instance ``ai-edge-litert 2.3.0``."""
    try:
        return f"{_PACKAGE} {version(_PACKAGE)}"
    except PackageNotFoundError:
        return _PACKAGE


_Bound = dict[str, tuple[int, tuple[int, ...], Convert]]


def _bind(
    kind: str,
    specs: Sequence[TensorSpec],
    details: Sequence[dict[str, Any]],
    converter: Callable[[dict[str, Any]], Convert],
) -> _Bound:
    check_names(kind, specs, [_tensor(detail, None) for detail in details])
    by_name = {detail["name"]: detail for detail in details}
    bound: _Bound = {}
    for spec in specs:
        detail = by_name[spec.name]
        found = _tensor(detail, spec)
        check_shape(kind, spec, found)
        convert: Convert = _same
        if spec.datatype == "FP32" and np.dtype(detail["dtype"]).kind in "iu":
            if len(detail["quantization_parameters"]["scales"]) != 1:
                raise ContractMismatchError(
                    f"{kind} {spec.name!r}: the manifest declares FP32, the model file has {found.datatype} "
                    "without one scale and zero point"
                )
            convert = converter(detail)
        else:
            check_datatype(kind, spec, found)
        bound[spec.name] = (int(detail["index"]), tuple(int(size) for size in detail["shape"]), convert)
    return bound


def _tensor(detail: dict[str, Any], spec: TensorSpec | None) -> FileTensor:
    shape = [int(size) for size in detail["shape"]]
    for axis, size in enumerate(detail["shape_signature"]):
        if size == -1:
            shape[axis] = -1
    if spec is not None and shape and spec.shape and spec.shape[0] == -1:
        # Converters fix the batch at 1; the interpreter resizes it all the same.
        shape[0] = -1
    dtype = np.dtype(detail["dtype"])
    return FileTensor(detail["name"], datatype_of(dtype) or str(dtype), tuple(shape))


def _fits(declared: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(
        want in {-1, have} for want, have in zip(declared, shape, strict=True)
    )


def _same(array: Array) -> Array:
    return array


def _quantizer(detail: dict[str, Any]) -> Convert:
    scale, zero_point = _scale(detail)
    dtype = np.dtype(detail["dtype"])
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max

    def quantize(values: Array) -> Array:
        with np.errstate(over="ignore"):  # what overflows saturates below
            scaled = np.rint(values / scale) + zero_point
        np.copyto(scaled, zero_point, where=np.isnan(scaled))
        clipped: Array = np.clip(scaled, low, high).astype(dtype)
        return clipped

    return quantize


def _dequantizer(detail: dict[str, Any]) -> Convert:
    scale, zero_point = _scale(detail)

    def dequantize(values: Array) -> Array:
        real: Array = (values.astype(DTYPES["FP32"]) - zero_point) * scale
        return real

    return dequantize


def _scale(detail: dict[str, Any]) -> tuple[np.float32, np.float32]:
    parameters = detail["quantization_parameters"]
    return np.float32(parameters["scales"][0]), np.float32(parameters["zero_points"][0])
