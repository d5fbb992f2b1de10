"""What ``python -m models reference`` does."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from agent.drift import encode_reference
from agent.protocol.drift import SignalSource
from agent.runner.backends import Array
from models.description import REFERENCE_FILENAME
from models.errors import DriftReferenceError
from models.reference.build import Rows, make_reference
from models.reference.dataset import Dataset, read_dataset
from models.reference.declaration import Declaration, read_declaration, source_of
from models.reference.model import Model, model_of_file, model_of_release
from models.reference.summary import show, warnings

FILE_COLUMNS = 160
"""Of the table where no terminal says how wide it is."""


def run_reference(options: argparse.Namespace) -> None:
    """Make the file, show what it holds, and warn."""
    declaration = read_declaration(options.signals)
    model = _model(options, declaration)
    dataset = read_dataset(
        options.data, declaration.data, tensor=_table_tensor(declaration, model), labels=options.labels
    )
    rows = _rows(declaration, dataset, model)
    reference = make_reference(declaration, rows)
    payload = encode_reference(reference)
    path = _destination(options)
    path.write_bytes(payload)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS, soft_wrap=False)
    show(reference, len(payload), str(path), console)
    for text in warnings(reference, rows):
        console.print(f"Warning: {text}.", highlight=False, markup=False, soft_wrap=True)


def _destination(options: argparse.Namespace) -> Path:
    """A release folder has its reference where `package` looks for it."""
    if options.out is not None:
        return Path(options.out)
    if options.release is not None:
        return Path(options.release) / REFERENCE_FILENAME
    raise DriftReferenceError("where to write it is not said; add --out FILE")


def _model(options: argparse.Namespace, declaration: Declaration) -> Model | None:
    if options.release is not None:
        return model_of_release(options.release, options.variant)
    if options.model is not None:
        return model_of_file(options.model, declaration, options.signals)
    return None


def _table_tensor(declaration: Declaration, model: Model | None) -> str | None:
    """The input that a table becomes."""
    if declaration.data.tensor is not None:
        return declaration.data.tensor
    if model is not None:
        names = [spec.name for spec in model.inputs]
    else:
        names = [*declaration.model.inputs] or sorted(
            {
                signal.tensor
                for signal in declaration.signals.values()
                if signal.tensor is not None and source_of(signal) == "input"
            }
        )
    return names[0] if len(names) == 1 else None


def _rows(declaration: Declaration, dataset: Dataset, model: Model | None) -> Rows:
    inputs, outputs = _sides(declaration, dataset, model)
    if model is not None and any(spec.name not in outputs for spec in model.outputs):
        outputs = model.run(inputs) | outputs
    return Rows(
        inputs=inputs,
        outputs=outputs,
        sha256=dataset.sha256,
        labels=dataset.labels,
        groups=dataset.groups,
        columns=dataset.columns,
    )


def _sides(
    declaration: Declaration, dataset: Dataset, model: Model | None
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Inputs, in the dtype that the device will see, and outputs that stand in the data already."""
    output_names = {spec.name for spec in model.outputs} if model is not None else _output_names(declaration)
    outputs = {name: array for name, array in dataset.tensors.items() if name in output_names}
    inputs = {name: array for name, array in dataset.tensors.items() if name not in output_names}
    if model is not None:
        inputs = model.fitted(inputs)
    return inputs, outputs


def _output_names(declaration: Declaration) -> set[str]:
    side: SignalSource = "output"
    named = {
        signal.tensor
        for signal in declaration.signals.values()
        if signal.tensor is not None and source_of(signal) == side
    }
    return named | set(declaration.model.outputs)
