"""Open Inference Protocol data types ↔ numpy dtypes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""Every data type of fixed width."""

BYTES = "BYTES"
"""The one without: its arrays have dtype ``object``, and every element is ``bytes``."""

BYTES_DTYPE = np.dtype(object)

DATATYPES = (*DTYPES, BYTES)
"""Every data type of the protocol."""

_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()} | {BYTES_DTYPE: BYTES}


def dtype_of(datatype: str) -> np.dtype[Any]:
    """The dtype of an array of ``datatype``; KeyError where the protocol has none of that name."""
    return BYTES_DTYPE if datatype == BYTES else DTYPES[datatype]


def datatype_of(dtype: np.dtype[Any]) -> str | None:
    """The protocol's name of ``dtype``; None where it has none."""
    return _DATATYPES.get(dtype)


def zeros(datatype: str, shape: Sequence[int]) -> Array:
    """An array of zeros, of False, or of empty ``bytes``."""
    if datatype == BYTES:
        return np.full(shape, b"", BYTES_DTYPE)
    return np.zeros(shape, DTYPES[datatype])
