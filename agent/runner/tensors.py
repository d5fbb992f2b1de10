"""Tensors of requests: checked against the manifest, with errors that name the tensor, what came and what is allowed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import DTYPES, Array
from agent.runner.errors import RequestError

MAX_ELEMENTS = 2**31
"""Of one tensor; a shape that says more is refused before it is multiplied out any further."""


def check_tensor(spec: TensorSpec, datatype: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Compare a request's data type and shape with the manifest's; gives the shape.

    Raises:
        RequestError: names the tensor, what is expected and what came.
    """
    if datatype != spec.datatype:
        raise RequestError(f"input {spec.name!r}: expected datatype {spec.datatype}, got {datatype}")
    fits = len(shape) == len(spec.shape) and all(
        (got == want and want != -1) or (want == -1 and 0 < got <= MAX_ELEMENTS)
        for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        hint = " (-1: any size from 1)" if -1 in spec.shape else ""
        raise RequestError(f"input {spec.name!r}: expected shape {list(spec.shape)}{hint}, got {list(shape)}")
    return tuple(shape)


def check_rows(specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> None:
    """Inputs whose first dimension is open must agree on it.

    Raises:
        RequestError: names the tensors and their rows.
    """
    rows = {spec.name: arrays[spec.name].shape[0] for spec in specs if spec.shape and spec.shape[0] == -1}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise RequestError(f"inputs must have the same number of rows: {told}")


def from_binary(spec: TensorSpec, shape: tuple[int, ...], data: memoryview) -> Array:
    """A read-only view of C-ordered little-endian ``data``; a copy where its address is not aligned.

    Raises:
        RequestError: its length is not that of the shape, or a BOOL is neither 0 nor 1.
    """
    dtype = DTYPES[spec.datatype]
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise RequestError(
            f"input {spec.name!r}: expected {expected} bytes for {spec.datatype} of shape {list(shape)}, "
            f"got {len(data)}"
        )
    if spec.datatype == "BOOL" and np.frombuffer(data, np.uint8).max(initial=0) > 1:
        raise RequestError(f"input {spec.name!r}: a BOOL is one byte, 0 or 1")
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> Array:
    """An array of a JSON list, flat or nested like ``shape``.

    Raises:
        RequestError: not numbers of that data type, or not as many as the shape says.
    """
    where = f"input {spec.name!r}"
    if not isinstance(data, list):
        raise RequestError(f"{where}: expected a list of values in 'data', got {type(data).__name__}")
    try:
        values = np.array(data)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{where}: 'data' is neither a flat list nor nested like its shape") from error
    if values.shape not in {shape, (math.prod(shape),)}:
        raise RequestError(
            f"{where}: expected data of shape {list(shape)}, flat or nested, got {list(values.shape)}"
        )
    return _converted(spec, values).reshape(shape)


_KINDS = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}


def _converted(spec: TensorSpec, values: Array) -> Array:
    dtype = DTYPES[spec.datatype]
    if values.dtype.kind not in _KINDS[dtype.kind]:
        raise RequestError(f"input {spec.name!r}: 'data' holds values that are not {spec.datatype}")
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise RequestError(
                f"input {spec.name!r}: {spec.datatype} holds {limits.min} to {limits.max}, "
                f"got {low if low < limits.min else high}"
            )
    with np.errstate(over="ignore"):  # becomes infinite, which is said below
        converted: Array = values.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(converted).all():
        raise RequestError(f"input {spec.name!r}: 'data' holds a value too large for {spec.datatype}")
    return converted
