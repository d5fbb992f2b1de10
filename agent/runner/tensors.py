"""Tensors of requests: checked against the manifest, with errors that name the tensor, what came and what is allowed."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agent.protocol.manifest import TensorSpec
from agent.runner.backends import BYTES, DTYPES, Array
from agent.runner.backends.datatypes import BYTES_DTYPE
from agent.runner.errors import RequestError

MAX_ELEMENTS = 2**31
"""Of one tensor; a shape that says more is refused before it is multiplied out any further."""

_LENGTH = struct.Struct("<I")
"""Before each element of BYTES."""


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


def check_rows(specs: Sequence[TensorSpec], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Inputs whose first dimension is open must agree on it.

    Raises:
        RequestError: names the tensors and their rows.
    """
    rows = {spec.name: shapes[spec.name][0] for spec in specs if spec.shape and spec.shape[0] == -1}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"{name!r} has {count}" for name, count in rows.items())
        raise RequestError(f"inputs must have the same number of rows: {told}")


def check_size(spec: TensorSpec, shape: tuple[int, ...], size: int) -> None:
    """Compare the bytes of a binary tensor with its shape; BYTES are counted where they are read.

    Raises:
        RequestError: they differ.
    """
    if spec.datatype == BYTES:
        return
    expected = math.prod(shape) * DTYPES[spec.datatype].itemsize
    if size != expected:
        raise RequestError(
            f"input {spec.name!r}: expected {expected} bytes for {spec.datatype} of shape {list(shape)}, got {size}"
        )


def from_binary(spec: TensorSpec, shape: tuple[int, ...], data: bytes, start: int, size: int) -> Array:
    """Elements of C-ordered little-endian ``data[start : start + size]``, a size that :func:`check_size` has passed.

    Returns:
        a read-only view; a copy where its address is not aligned. BYTES: dtype object, every element ``bytes``.

    Raises:
        RequestError: a BOOL is neither 0 nor 1, or the lengths in BYTES do not add up.
    """
    if spec.datatype == BYTES:
        return _texts(spec, shape, memoryview(data)[start : start + size])
    array: Array = np.ndarray(shape, DTYPES[spec.datatype], data, start)
    if spec.datatype == "BOOL" and array.view(np.uint8).max(initial=0) > 1:
        raise RequestError(f"input {spec.name!r}: a BOOL is one byte, 0 or 1")
    return array if array.flags.aligned else array.copy()


def _texts(spec: TensorSpec, shape: tuple[int, ...], data: memoryview) -> Array:
    """Each element's length (4 bytes, little-endian), then its bytes."""
    count, size = math.prod(shape), len(data)
    # Before anything is made for them: a shape costs its sender nothing.
    if count * _LENGTH.size > size:
        raise RequestError(f"input {spec.name!r}: {size} bytes are too few for {count} BYTES elements")
    values: Array = np.empty(count, BYTES_DTYPE)
    offset = 0
    for index in range(count):
        (length,) = _LENGTH.unpack_from(data, offset) if size - offset >= _LENGTH.size else (size,)
        offset += _LENGTH.size
        if length > size - offset:
            raise RequestError(
                f"input {spec.name!r}: BYTES element {index} ends after the tensor's {size} bytes"
            )
        values[index] = bytes(data[offset : offset + length])
        offset += length
    if offset != size:
        raise RequestError(f"input {spec.name!r}: {size - offset} bytes follow its {count} BYTES elements")
    return values.reshape(shape)


def to_binary(array: Array) -> bytes:
    """The tensor as the binary tensor extension has it."""
    if array.dtype != BYTES_DTYPE:
        return array.tobytes()
    return b"".join([piece for value in array.flat for piece in (_LENGTH.pack(len(value)), value)])


def to_json(name: str, array: Array) -> list[Any]:
    """The tensor's elements as a flat list of JSON values.

    Raises:
        RequestError: BYTES that are no text, which JSON can't hold.
    """
    if array.dtype != BYTES_DTYPE:
        flat: list[Any] = array.ravel().tolist()
        return flat
    try:
        return [value.decode() for value in array.flat]
    except UnicodeDecodeError as error:
        raise RequestError(
            f"output {name!r} holds bytes that are no UTF-8 text; ask for it with the parameter binary_data"
        ) from error


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> Array:
    """An array of a JSON list, flat or nested like ``shape``.

    Raises:
        RequestError: not numbers of that data type, or not as many as the shape says.
    """
    where = f"input {spec.name!r}"
    if not isinstance(data, list):
        raise RequestError(f"{where}: expected a list of values in 'data', got {type(data).__name__}")
    try:
        values = np.array(data, BYTES_DTYPE if spec.datatype == BYTES else None)
    except (ValueError, OverflowError) as error:
        raise RequestError(f"{where}: 'data' is neither a flat list nor nested like its shape") from error
    if values.shape not in {shape, (math.prod(shape),)}:
        raise RequestError(
            f"{where}: expected data of shape {list(shape)}, flat or nested, got {list(values.shape)}"
        )
    if spec.datatype == "UINT64" and values.dtype.kind == "f":
        values = _mixed(data, values)
    convert = _encoded if spec.datatype == BYTES else _converted
    return convert(spec, values).reshape(shape)


def _encoded(spec: TensorSpec, values: Array) -> Array:
    encoded: Array = np.empty(values.size, BYTES_DTYPE)
    for index, text in enumerate(values.flat):
        if not isinstance(text, str):
            raise RequestError(
                f"input {spec.name!r}: 'data' holds values that are not strings, as BYTES are in JSON"
            )
        encoded[index] = text.encode()
    return encoded


def _mixed(data: list[Any], values: Array) -> Array:
    """``values``, unless numpy made floats of whole numbers: it does where only some are too large for INT64."""
    exact: Array = np.array(data, object)
    if any(type(value) is not int or value < 0 for value in exact.flat):
        return values
    return exact.astype(np.uint64)  # none is over 2**64 - 1: of those, numpy makes objects


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
    if dtype.kind == "f" and not np.logical_and.reduce(np.isfinite(converted), axis=None):
        raise RequestError(f"input {spec.name!r}: 'data' holds a value too large for {spec.datatype}")
    return converted
