"""TensorFlow Lite through LiteRT (``ai-edge-litert``), or ``tflite-runtime`` where only that is installed.

Measured: both release Python's lock in ``invoke`` (another thread waited 2 ms at most beside runs of 67 ms), and neither
can be asked to end a run.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    PACKAGE = "ai-edge-litert"
except ImportError:
    if find_spec("tflite_runtime") and int(np.__version__.split(".", 1)[0]) > 1:
        # It would import, and fail at the first model with a SystemError that names neither.
        raise ImportError(
            f"ai-edge-litert is not installed, and tflite-runtime needs numpy<2; here is numpy {np.__version__}"
        ) from None
    from tflite_runtime.interpreter import Interpreter

    PACKAGE = "tflite-runtime"

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.datatypes import Array
from agent.runner.backends.errors import InferenceError, UnreadableModelError
from agent.runner.backends.tflite_file import check_tflite_file
from agent.runner.backends.tflite_structure import check_structure
from agent.runner.backends.tflite_tensors import Naming, bind, namings


class TfliteBackend:
    """One interpreter; a new batch size re-plans its memory."""

    def __init__(
        self, content: bytes, *, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], threads: int
    ) -> None:
        check_tflite_file(content)
        if PACKAGE == "tflite-runtime":
            check_structure(content)
        self._open = partial(Interpreter, model_content=content, num_threads=threads)
        try:
            self._interpreter = self._open()
            self._interpreter.allocate_tensors()
            found_inputs, found_outputs = _namings(self._interpreter)
        except (ValueError, RuntimeError) as error:
            raise UnreadableModelError(f"{library()} does not load the file: {error}") from error
        self._specs = {spec.name: spec for spec in inputs}
        self._inputs = bind("input", inputs, found_inputs)
        self._outputs = bind("output", outputs, found_outputs)
        self._planned: dict[str, tuple[int, ...] | None] = {
            name: bound.shape for name, bound in self._inputs.items()
        }

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See :class:`agent.runner.backends.base.Backend`."""
        interpreter = self._interpreter
        try:
            for name, shape in self._planned.items():
                if inputs[name].shape != shape:
                    self._plan(inputs)
                    break
            for name, (index, _, convert) in self._inputs.items():
                interpreter.set_tensor(index, convert(inputs[name]))
            interpreter.invoke()
            return {
                name: convert(interpreter.get_tensor(index))
                for name, (index, _, convert) in self._outputs.items()
            }
        except (KeyError, ValueError, RuntimeError) as error:
            raise InferenceError(f"{library()}: {error}") from error

    def cancel(self) -> None:
        """Nothing: the interpreter's Python face has no such call."""

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
        self._planned = dict.fromkeys(shapes)
        for name, shape in shapes.items():
            self._interpreter.resize_tensor_input(self._inputs[name].place, list(shape))
        try:
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError):
            # tflite-runtime may crash when asked again after it could not: a new one, as yet without a plan.
            self._interpreter = self._open()
            raise
        self._planned = {**shapes}


def library() -> str:
    """Name and version of the library, for instance ``ai-edge-litert 2.3.0``."""
    try:
        return f"{PACKAGE} {version(PACKAGE)}"
    except PackageNotFoundError:
        return PACKAGE


def _namings(interpreter: Any) -> tuple[list[Naming], list[Naming]]:
    signatures = list(interpreter.get_signature_list())
    inputs = outputs = None
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner(signatures[0])
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
    return namings(interpreter.get_input_details(), inputs), namings(
        interpreter.get_output_details(), outputs
    )


def _fits(declared: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(declared) == len(shape) and all(
        want in {-1, have} for want, have in zip(declared, shape, strict=True)
    )
