"""What every server serves: one model file, its tensors, one row to send, and the drift reference of its release."""

import hashlib
from pathlib import Path

from msgspec import Struct

from agent.protocol.codec import decode_msgpack
from agent.protocol.golden import GoldenVectors
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import Datatype, TensorSpec, decode_manifest
from hw_bench.errors import SubjectError
from hw_bench.serving.messages import How, Route
from hw_bench.subject import Subject, read_subject
from models.description import DESCRIPTION_FILENAME, REFERENCE_FILENAME

ITEM_BYTES: dict[Datatype, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""As :data:`agent.runner.backends.DTYPES` has it, without NumPy (see :mod:`hw_bench.serving.pairs`)."""


class ServedModel(Struct, frozen=True, kw_only=True):
    """One model file and what a server and a client must know of it; one input tensor."""

    name: str
    runtime: str
    path: Path
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    row: bytes
    """One row, little-endian, row-major; its shape is the input's with 1 for the batch."""
    reference: Path | None
    """Drift reference."""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def row_shape(self) -> tuple[int, ...]:
        return tuple(1 if size == -1 else size for size in self.input.shape)

    def route(self, name: str, address: str, how: How) -> Route:
        """The way to this model on one server."""
        return Route(
            name=name,
            address=address,
            how=how,
            model=self.name,
            input_name=self.input.name,
            datatype=self.input.datatype,
            shape=self.row_shape,
            data=self.row,
            outputs=tuple(spec.name for spec in self.outputs),
        )


def read_served(folder: Path) -> dict[str, ServedModel]:
    """The variants of a release folder by runtime (the first of each).

    Raises:
        SubjectError: no release folder, a file is missing, or a model takes more than one tensor.
    """
    subject = read_subject(folder)
    reference = _reference(folder)
    if len(subject.inputs) != 1:
        raise SubjectError(
            f"{folder}: the serving bench sends one input tensor, the model takes {len(subject.inputs)}"
        )
    served: dict[str, ServedModel] = {}
    for variant in subject.variants:
        served.setdefault(
            variant.runtime,
            ServedModel(
                name=subject.model,
                runtime=variant.runtime,
                path=Path(variant.path).resolve(),
                input=subject.inputs[0],
                outputs=subject.outputs,
                row=_first_row(subject),
                reference=reference.resolve(),
            ),
        )
    return served


def _reference(folder: Path) -> Path:
    if (folder / DESCRIPTION_FILENAME).exists() or not (folder / MANIFEST_FILENAME).exists():
        path = folder / REFERENCE_FILENAME
    else:
        manifest = decode_manifest((folder / MANIFEST_FILENAME).read_bytes())
        path = folder / manifest.drift_reference.filename
    if not path.is_file():
        raise SubjectError(f"{path} does not exist; the bench serves with drift bookkeeping on")
    return path


def _first_row(subject: Subject) -> bytes:
    golden: GoldenVectors = decode_msgpack(Path(subject.golden).read_bytes(), GoldenVectors)
    tensor = next((tensor for tensor in golden.inputs if tensor.name == subject.inputs[0].name), None)
    if tensor is None:
        raise SubjectError(f"{subject.golden} has no input {subject.inputs[0].name!r}; run the recipe again")
    return tensor.data[: len(tensor.data) // tensor.shape[0]]


def tensor(name: str, datatype: Datatype, *shape: int) -> TensorSpec:
    """A tensor's description in one line."""
    return TensorSpec(name=name, datatype=datatype, shape=shape)
