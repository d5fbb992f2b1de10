"""Tensors of a TFLite file ↔ tensors of the manifest: names, shapes, and integers with a scale.

A file names its tensors twice: in a signature, as its author did, and in the graph, where converters write
``serving_default_image:0``. The manifest's names are looked for in its signature, where it has exactly one; then among
the graph's names; then among those without what converters add. The first naming that has them all is taken.

A file with integer inputs or outputs serves a manifest that declares FP32: values are quantized and dequantized
here, ``q = round(x / scale) + zero_point`` and ``x = (q - zero_point) · scale`` (TFLite's 8-bit quantization
specification), saturating at the integer type's ends; NaN becomes the zero point. A manifest that declares the
integer type gets the integers as they are.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import FileTensor, check_datatype, check_shape
from agent.runner.backends.datatypes import BYTES, DTYPES, Array, datatype_of
from agent.runner.backends.errors import ContractMismatchError

Convert = Callable[[Array], Array]
Detail = Mapping[str, Any]
"""What the interpreter says of one tensor."""

_PREFIX = "serving_default_"


class Bound(NamedTuple):
    """A declared tensor and its place in the interpreter."""

    place: int
    shape: tuple[int, ...]
    """Before any resizing."""
    convert: Convert


class Naming(NamedTuple):
    """One way in which the file names its tensors."""

    title: str
    details: dict[str, Detail]


def namings(details: Sequence[Detail], signature: Mapping[str, Detail] | None) -> list[Naming]:
    """The ways in which tensors may be named, the author's first; one that is ambiguous is left out.

    Args:
        details: the graph's inputs, or its outputs.
        signature: those of the file's only signature by their names in it; None where it has none or several.
    """
    found = []
    # A signature may also belong to another graph of the file, whose tensors have indexes of their own.
    if signature is not None and _places(signature.values()) <= _places(details):
        found.append(Naming("signature", dict(signature)))
    names = [detail["name"] for detail in details]
    for title, shown in (("tensors", names), ("shortened", [_short(name) for name in names])):
        if len(set(shown)) == len(shown):
            found.append(Naming(title, dict(zip(shown, details, strict=True))))
    return found


def _places(details: Iterable[Detail]) -> set[tuple[int, str]]:
    return {(detail["index"], detail["name"]) for detail in details}


def _short(name: str) -> str:
    return name.removeprefix(_PREFIX).split(":", 1)[0]


def bind(
    kind: str,
    specs: Sequence[TensorSpec],
    found: Sequence[Naming],
) -> dict[str, Bound]:
    """Find each declared tensor in the file.

    Raises:
        ContractMismatchError: names, data types, shapes or quantization are not those declared.
    """
    by_name = _naming(kind, specs, found)
    return {spec.name: _bound(kind, spec, by_name[spec.name]) for spec in specs}


def _naming(kind: str, specs: Sequence[TensorSpec], found: Sequence[Naming]) -> dict[str, Detail]:
    declared = {spec.name for spec in specs}
    for _, details in found:
        # An undeclared output is merely not asked for; an undeclared input could never be fed.
        if declared <= details.keys() and (kind == "output" or declared == details.keys()):
            return details
    shown: dict[str, str] = {}
    for title, details in found:
        shown.setdefault(", ".join(sorted(details)), title)
    has = "; or ".join(f"{names} ({title})" for names, title in shown.items()) or "names that stand twice"
    raise ContractMismatchError(
        f"{kind}s: the manifest declares {', '.join(sorted(declared))}; the model file has {has}"
    )


def _bound(kind: str, spec: TensorSpec, detail: Detail) -> Bound:
    found = _tensor(detail, spec)
    check_shape(kind, spec, found)
    convert: Convert = _same
    if spec.datatype == "FP32" and np.dtype(detail["dtype"]).kind in "iu":
        convert = (_quantizer if kind == "input" else _dequantizer)(kind, spec, detail)
    else:
        check_datatype(kind, spec, found)
    return Bound(int(detail["index"]), tuple(int(size) for size in detail["shape"]), convert)


def _tensor(detail: Detail, spec: TensorSpec) -> FileTensor:
    shape = [int(size) for size in detail["shape"]]
    for axis, size in enumerate(detail["shape_signature"]):
        if size == -1:
            shape[axis] = -1
    if shape and spec.shape and spec.shape[0] == -1:
        # Converters fix the batch at 1; the interpreter resizes it all the same.
        shape[0] = -1
    dtype = np.dtype(detail["dtype"])
    datatype = BYTES if dtype.kind == "S" else datatype_of(dtype)
    return FileTensor(detail["name"], datatype or str(dtype), tuple(shape))


def _same(array: Array) -> Array:
    return array


def _quantizer(kind: str, spec: TensorSpec, detail: Detail) -> Convert:
    scale, zero_point = _scale(kind, spec, detail)
    dtype = np.dtype(detail["dtype"])
    limits = np.iinfo(dtype.name)
    low, high = limits.min, limits.max

    def quantize(values: Array) -> Array:
        with np.errstate(over="ignore"):  # what overflows saturates below
            scaled = np.rint(values / scale) + zero_point
        np.copyto(scaled, zero_point, where=np.isnan(scaled))
        clipped: Array = np.clip(scaled, low, high).astype(dtype)
        return clipped

    return quantize


def _dequantizer(kind: str, spec: TensorSpec, detail: Detail) -> Convert:
    scale, zero_point = _scale(kind, spec, detail)

    def dequantize(values: Array) -> Array:
        real: Array = (values.astype(DTYPES["FP32"]) - zero_point) * scale
        return real

    return dequantize


_WIDEST = 2
"""Bytes of the integers that FP32 holds exactly, times any scale."""


def _scale(kind: str, spec: TensorSpec, detail: Detail) -> tuple[np.float32, np.float32]:
    dtype = np.dtype(detail["dtype"])
    parameters = detail["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    usable = len(scales) == len(zero_points) == 1 and math.isfinite(scales[0]) and scales[0] > 0
    if not usable or dtype.itemsize > _WIDEST:
        raise ContractMismatchError(
            f"{kind} {spec.name!r}: the manifest declares FP32, the model file has {datatype_of(dtype) or dtype} "
            f"{'of more than 16 bits' if usable else 'without one scale and zero point'}"
        )
    return np.float32(scales[0]), np.float32(zero_points[0])
