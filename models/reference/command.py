"""``python -m models reference``: the drift reference of a release, from its data."""

import argparse
from pathlib import Path

from models.description import REFERENCE_FILENAME


def add_reference(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; it sets ``run``."""
    command = commands.add_parser(
        "reference", help="make the drift reference of a release from data, by a declaration of its signals"
    )
    command.add_argument(
        "--signals",
        type=Path,
        required=True,
        metavar="FILE.toml",
        help="what is monitored (docs/drift-reference.md)",
    )
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="rows that the model was not trained on: .npz with an array a tensor, .npy, or .csv with named columns",
    )
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--model", type=Path, metavar="FILE", help=".onnx or .tflite; needs [model] in the declaration"
    )
    which.add_argument(
        "--release", type=Path, metavar="DIR", help="a release folder, which says its tensors itself"
    )
    command.add_argument("--variant", metavar="NAME", help="of --release; default: the first one")
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.npy",
        help="the class of each row; else data.label of the declaration",
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE.json", help=f"default with --release: its {REFERENCE_FILENAME}"
    )
    command.set_defaults(run=_reference)


def _reference(options: argparse.Namespace) -> None:
    from models.reference.make import run_reference  # noqa: PLC0415 - NumPy, for this command alone

    run_reference(options)
