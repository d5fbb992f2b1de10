"""``edgeward samples``: the inputs that are kept on this device; copies of them for its owner."""

import argparse
import errno
import os
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.cli.client import ask
from agent.cli.errors import BadAnswerError, CliError
from agent.protocol.control import ControlRequest, ControlResult, Done, SampleFileResult
from agent.protocol.samples import NUMPY_DTYPES, KeptSample, SampleTensor

INDEX = "samples.jsonl"


def run(arguments: argparse.Namespace) -> ControlResult:
    """One action; raises CliError where it can't be done."""
    match arguments.action:
        case "clear":
            return ask(arguments.socket, ControlRequest(method="samples-clear"))
        case "export":
            return _export(arguments.socket, arguments.folder)
        case _:
            return ask(
                arguments.socket,
                ControlRequest(method="samples-show", model=arguments.model, limit=arguments.limit),
            )


def _export(socket: str, folder: Path) -> Done:
    """One ``.npz`` a sample, and an index with everything else of them, one JSON line each."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CliError(f"{folder}: is not empty", "name a folder that is new or empty")
        count, after = 0, None
        descriptor = os.open(folder / INDEX, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as index:
            while (sample := _next(socket, after)) is not None:
                after = sample.id
                _write(folder, sample)
                index.write(_line(sample) + b"\n")
                count += 1
    except OSError as error:
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        raise CliError(f"{folder}: {what}", "what is there is incomplete; delete it") from error
    return Done(
        message=f"{count} samples are in {folder}, with {INDEX}; they may show people: keep them safe"
    )


def _next(socket: str, after: str | None) -> KeptSample | None:
    result = ask(socket, ControlRequest(method="samples-export", after=after))
    if not isinstance(result, SampleFileResult):
        raise BadAnswerError("the agent's answer is not a sample")
    if result.sample is not None and after is not None and result.sample.id <= after:
        raise BadAnswerError("the agent's answer is a sample that was here already")
    return result.sample


def _write(folder: Path, sample: KeptSample) -> None:
    arrays = {f"input.{each.name}": _array(each) for each in sample.inputs}
    arrays |= {f"output.{each.name}": _array(each) for each in sample.outputs}
    path = folder / f"{sample.id}.npz"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own keyword


def _array(tensor: SampleTensor) -> NDArray[np.generic]:
    return np.frombuffer(tensor.data, dtype=NUMPY_DTYPES[tensor.datatype]).reshape(tensor.shape)


def _line(sample: KeptSample) -> bytes:
    """Everything but the tensors, on one line."""
    fields = {
        name: value
        for name, value in msgspec.structs.asdict(sample).items()
        if name not in {"inputs", "outputs"}
    }
    return msgspec.json.encode(fields)
