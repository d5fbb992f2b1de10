"""What every backend is, and the checks that all of them share."""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from agent.protocol.manifest import TensorSpec
from agent.runner.backends.datatypes import Array
from agent.runner.backends.errors import ContractMismatchError, UnreadableModelError
from agent.runner.backends.support import Support

MAX_MODEL_BYTES = 1 << 30
"""A larger file is refused before it is read (protobuf itself ends at 2 GiB)."""


class Backend(Protocol):
    """One loaded model of one runtime.

    One thread at a time runs it, not always the same one. Python's lock is free while the runtime computes, so other
    threads go on (:mod:`agent.runner.backends.support` says which of this was measured).
    """

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once.

        Args:
            inputs: one C-ordered array a declared input, with its declared dtype and shape. BYTES: dtype ``object``,
                every element ``bytes``.

        Returns:
            one array a declared output, with its declared dtype; it belongs to the caller.

        Raises:
            InvalidInputError: the runtime does not take this value, by the sender's fault.
            CancelledRunError: :meth:`cancel` ended it.
            InferenceError: the runtime failed.
        """
        ...

    def cancel(self) -> None:
        """Ask the run that is under way in another thread to end soon.

        Between two runs it does nothing, and a runtime that cannot be asked goes on (see
        :attr:`agent.runner.backends.support.Support.cancel`). It ends between two operators, not inside one.
        """
        ...

    def describe(self) -> str:
        """Library and version, for instance ``onnxruntime 1.22.0``."""
        ...


class FileTensor(NamedTuple):
    """One tensor as the model file has it."""

    name: str
    datatype: str
    """The protocol's name, or the runtime's own where the protocol has none."""
    shape: tuple[int, ...]
    """-1 where the file leaves the dimension open."""


def read_model(path: Path, sha256: str | None) -> bytes:
    """Read a model file once; what is checked here is what is loaded later.

    Raises:
        UnreadableModelError: no regular file (links are not followed), too large, or of another digest.
    """
    try:
        with open(path, "rb", opener=_without_links) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableModelError(f"{path}: not a regular file")
            if status.st_size > MAX_MODEL_BYTES:
                raise UnreadableModelError(
                    f"{path}: {status.st_size} bytes, at most {MAX_MODEL_BYTES} are allowed"
                )
            # Not the maximum: Python reserves what it is asked to read, which a small device refuses.
            content = file.read(status.st_size)
    except OSError as error:
        raise UnreadableModelError(f"{path}: {error.strerror}") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise UnreadableModelError(f"{path}: SHA-256 is {found}, {sha256} was expected")
    return content


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def check_specs(kind: str, specs: Sequence[TensorSpec], support: Support) -> None:
    """Refuse a manifest that asks for a data type which the library does not have.

    Raises:
        ContractMismatchError: names the tensor.
    """
    for spec in specs:
        if spec.datatype not in support.datatypes:
            raise ContractMismatchError(
                f"{kind} {spec.name!r}: {support.library} does not take datatype {spec.datatype}; "
                f"allowed: {', '.join(support.datatypes)}"
            )


def check_names(kind: str, specs: Sequence[TensorSpec], found: Sequence[FileTensor]) -> None:
    """Compare names.

    Raises:
        ContractMismatchError: the file lacks a tensor, or wants one that is not declared.
    """
    declared = sorted(spec.name for spec in specs)
    names = sorted(tensor.name for tensor in found)
    missing = [name for name in declared if name not in names]
    extra = [name for name in names if name not in declared]
    # An undeclared output is merely not asked for; an undeclared input could never be fed.
    if missing or (extra and kind == "input"):
        raise ContractMismatchError(
            f"{kind}s: the manifest declares {', '.join(declared)}; the model file has {', '.join(names)}"
        )


def check_shape(kind: str, spec: TensorSpec, found: FileTensor) -> None:
    """Compare rank and dimensions; a dimension that the file leaves open takes any declared one.

    Raises:
        ContractMismatchError: names the tensor, what is declared and what the file has.
    """
    fits = len(spec.shape) == len(found.shape) and all(
        have in {-1, want} for want, have in zip(spec.shape, found.shape, strict=True)
    )
    if not fits:
        raise ContractMismatchError(
            f"{kind} {spec.name!r}: the manifest declares shape {list(spec.shape)}, "
            f"the model file has {list(found.shape)}"
        )


def check_datatype(kind: str, spec: TensorSpec, found: FileTensor) -> None:
    """Compare data types.

    Raises:
        ContractMismatchError: names the tensor, what is declared and what the file has.
    """
    if spec.datatype != found.datatype:
        raise ContractMismatchError(
            f"{kind} {spec.name!r}: the manifest declares {spec.datatype}, the model file has {found.datatype}"
        )
