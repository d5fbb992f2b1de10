"""Inference runtimes behind one face; a runtime's library is imported only when it is used."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.base import Backend, check_specs, read_model
from agent.runner.backends.datatypes import DTYPES, Array, datatype_of
from agent.runner.backends.errors import (
    BackendError,
    ContractMismatchError,
    HostileModelError,
    InferenceError,
    ModelRefusedError,
    RuntimeMissingError,
    UnreadableModelError,
)

__all__ = [
    "DTYPES",
    "Array",
    "Backend",
    "BackendError",
    "ContractMismatchError",
    "HostileModelError",
    "InferenceError",
    "ModelRefusedError",
    "RuntimeMissingError",
    "UnreadableModelError",
    "available_runtimes",
    "datatype_of",
    "open_backend",
]

RUNTIMES = ("onnx", "tflite")
_EXTRAS = {"onnx": "edgeward[onnx]", "tflite": "edgeward[tflite]"}


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
    check_specs(inputs, "input")
    check_specs(outputs, "output")
    content = read_model(path, sha256)
    try:
        if runtime == "onnx":
            from agent.runner.backends.onnx import OnnxBackend  # noqa: PLC0415  (a device installs one runtime)

            return OnnxBackend(content, inputs=inputs, outputs=outputs, threads=threads)
        if runtime == "tflite":
            from agent.runner.backends.tflite import TfliteBackend  # noqa: PLC0415  (as above)

            return TfliteBackend(content, inputs=inputs, outputs=outputs, threads=threads)
    except ImportError as error:
        raise RuntimeMissingError(
            f"runtime {runtime!r} is not installed ({error}); pip install '{_EXTRAS[runtime]}'"
        ) from error
    raise RuntimeMissingError(f"runtime {runtime!r} is unknown; allowed: {', '.join(RUNTIMES)}")
