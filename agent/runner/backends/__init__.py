"""Inference runtimes behind one face; a runtime's library is imported only when it is used."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import Backend, check_specs, read_model
from agent.runner.backends.datatypes import BYTES, DATATYPES, DTYPES, Array, datatype_of, dtype_of, zeros
from agent.runner.backends.errors import (
    BackendError,
    CancelledRunError,
    ContractMismatchError,
    HostileModelError,
    InferenceError,
    InvalidInputError,
    ModelRefusedError,
    RuntimeMissingError,
    UnreadableModelError,
)
from agent.runner.backends.support import SUPPORT

__all__ = [
    "BYTES",
    "DATATYPES",
    "DTYPES",
    "SUPPORT",
    "Array",
    "Backend",
    "BackendError",
    "CancelledRunError",
    "ContractMismatchError",
    "HostileModelError",
    "InferenceError",
    "InvalidInputError",
    "ModelRefusedError",
    "RuntimeMissingError",
    "UnreadableModelError",
    "available_runtimes",
    "datatype_of",
    "dtype_of",
    "open_backend",
    "zeros",
]

RUNTIMES = ("onnx", "tflite")
LEGACY_BEFORE = (3, 12)
"""tflite-runtime has no wheel for this CPython or a newer one."""


def available_runtimes() -> dict[str, str]:
    """Runtime → library and version, of the runtimes that can be imported here. Imports them."""
    found: dict[str, str] = {}
    for runtime in RUNTIMES:
        try:
            found[runtime] = str(import_module(f"{__name__}.{runtime}").library())
        except ImportError:
            continue
    return found


def open_backend(
    runtime: str,
    path: Path,
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    threads: int = 1,
    sha256: str | None = None,
) -> Backend:
    """Load a model file and check it against the manifest.

    Args:
        runtime: ``onnx`` or ``tflite``.
        path: the model file, a regular file.
        inputs: the manifest's inputs; the file must have exactly these.
        outputs: the manifest's outputs; the file must have at least these.
        threads: threads inside one operator.
        sha256: expected digest of the file's bytes; None does not check it.

    Raises:
        ModelRefusedError: one of its kinds (see :mod:`agent.runner.backends.errors`).
    """
    library, make = _load(runtime)
    for kind, specs in (("input", inputs), ("output", outputs)):
        check_specs(kind, specs, SUPPORT[library])
    return make(read_model(path, sha256), inputs=inputs, outputs=outputs, threads=threads)


class _Make(Protocol):
    def __call__(
        self, content: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> Backend: ...


def _load(runtime: str) -> tuple[str, _Make]:
    """Name of the library, and what opens a file with it; imported here, since a device installs one runtime."""
    try:
        if runtime == "onnx":
            from agent.runner.backends import onnx  # noqa: PLC0415

            return "onnxruntime", onnx.OnnxBackend
        if runtime == "tflite":
            from agent.runner.backends import tflite  # noqa: PLC0415

            return tflite.PACKAGE, tflite.TfliteBackend
    except ImportError as error:
        raise RuntimeMissingError(
            f"runtime {runtime!r} can't be used here ({error}); {_advice(runtime)}"
        ) from error
    raise RuntimeMissingError(f"runtime {runtime!r} is unknown; allowed: {', '.join(RUNTIMES)}")


def _advice(runtime: str) -> str:
    advice = f"pip install 'edgeward[{runtime}]'"
    if runtime != "tflite":
        return advice
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info >= LEGACY_BEFORE:
        return (
            f"{advice} (boards of 32 bits have tflite-runtime only, which needs CPython 3.11; here is {here})"
        )
    return f"{advice}, or on a board of 32 bits 'edgeward[tflite-legacy]', which brings tflite-runtime and numpy<2"
