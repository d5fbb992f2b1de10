"""The model whose outputs a reference counts: opened by the device's own backends, run on every row."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.protocol.manifest import Runtime, TensorSpec
from agent.runner.backends import Array, BackendError, dtype_of, open_backend
from models.description import read_description
from models.errors import DriftReferenceError
from models.reference.declaration import Declaration, TensorDeclaration

BATCH = 256
"""Rows a run, where the model leaves their number open."""

RUNTIMES: dict[str, Runtime] = {".onnx": "onnx", ".tflite": "tflite"}


@dataclass(frozen=True, slots=True)
class Model:
    """A model file and what it takes and gives."""

    path: Path
    runtime: Runtime
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of every row, in batches.

        Raises:
            DriftReferenceError: an input is absent or does not fit, or the file is refused; the text says which and why.
        """
        inputs = self.fitted(tensors)
        rows = len(next(iter(inputs.values())))
        try:
            backend = open_backend(self.runtime, self.path, inputs=self.inputs, outputs=self.outputs)
            parts = [
                backend.infer({name: _cut(array, start, size) for name, array in inputs.items()})
                for start, size in _batches(rows, self.inputs[0].shape[0])
            ]
        except BackendError as error:
            raise DriftReferenceError(f"{self.path}: {error}") from error
        return {
            spec.name: np.concatenate([part[spec.name] for part in parts])[:rows] for spec in self.outputs
        }

    def fitted(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Every input in its declared dtype; raises as :meth:`run` does."""
        return {spec.name: self._fitted(spec, tensors) for spec in self.inputs}

    def _fitted(self, spec: TensorSpec, tensors: Mapping[str, Array]) -> Array:
        array = tensors.get(spec.name)
        if array is None:
            raise DriftReferenceError(
                f"the data has no array {spec.name!r}, which the model takes; it has: {', '.join(tensors)}"
            )
        if array.ndim != len(spec.shape) or any(
            want not in {-1, have} for want, have in zip(spec.shape[1:], array.shape[1:], strict=True)
        ):
            raise DriftReferenceError(
                f"the data's {spec.name} has shape {array.shape}, the model takes {list(spec.shape)}"
            )
        if array.dtype.kind not in "biuf":
            raise DriftReferenceError(f"the data's {spec.name} is {array.dtype}, numbers are needed")
        return np.ascontiguousarray(array, dtype=dtype_of(spec.datatype))


def _batches(rows: int, declared: int) -> list[tuple[int, int]]:
    size = BATCH if declared == -1 else declared
    return [(start, size if declared != -1 else min(size, rows - start)) for start in range(0, rows, size)]


def _cut(array: Array, start: int, size: int) -> Array:
    """Rows of one batch; a model of a fixed number gets the last row again where there are too few."""
    part = array[start : start + size]
    if len(part) < size:
        part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
    return np.ascontiguousarray(part)


def model_of_file(path: Path, declaration: Declaration, source: Path) -> Model:
    """A model file, with the tensors that the declaration's ``[model]`` says it has.

    Raises:
        DriftReferenceError: its ending is unknown, or its tensors are not declared.
    """
    runtime = RUNTIMES.get(path.suffix)
    if runtime is None:
        raise DriftReferenceError(f"{path}: allowed are {' and '.join(RUNTIMES)} files")
    for side in ("inputs", "outputs"):
        if not getattr(declaration.model, side):
            raise DriftReferenceError(
                f"{source}: model.{side}: what {path.name} has is not declared; add tables [model.{side}.NAME] with datatype and "
                "shape, as the manifest will have them"
            )
    return Model(
        path=path,
        runtime=runtime,
        inputs=_specs(declaration.model.inputs),
        outputs=_specs(declaration.model.outputs),
    )


def model_of_release(folder: Path, variant: str | None) -> Model:
    """A variant of a release folder; its first one where none is named.

    Raises:
        ReleaseFolderError: it is none.
        DriftReferenceError: it has no such variant.
    """
    description = read_description(folder)
    names = [entry.name for entry in description.variants]
    if variant is not None and variant not in names:
        raise DriftReferenceError(f"{folder}: has no variant {variant!r}; it has: {', '.join(names)}")
    chosen = description.variants[names.index(variant) if variant is not None else 0]
    return Model(
        path=folder / chosen.filename,
        runtime=chosen.runtime,
        inputs=description.inputs,
        outputs=description.outputs,
    )


def _specs(declared: Mapping[str, TensorDeclaration]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=name, datatype=entry.datatype, shape=entry.shape) for name, entry in declared.items()
    )
