"""From a declaration and data to a reference with its calibration."""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from agent.drift import (
    DriftError,
    SignalSpec,
    build_reference,
    decode_reference,
    encode_reference,
    signal_values,
)
from agent.drift.calibration import Labelled, calibrate
from agent.protocol.drift import Components, DriftReference, SignalSource
from agent.protocol.errors import ProtocolError
from agent.runner.backends import Array
from models.errors import DriftReferenceError
from models.network import IntArray
from models.reference.components import principal_components
from models.reference.declaration import Declaration, SignalDeclaration, source_of


@dataclass(frozen=True, slots=True)
class Rows:
    """Reference data: what went into the model, what came out, and what was right."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    sha256: str
    labels: IntArray | None = None
    """Shape (rows,), the class that each row really is; None: there is no estimate of accuracy."""
    groups: IntArray | None = None
    """Shape (rows,), see :class:`agent.drift.calibration.Labelled`."""
    columns: tuple[str, ...] = ()
    """Names of the elements of a row of a table."""

    def side(self, source: SignalSource) -> dict[str, Array]:
        """Inputs or outputs."""
        return self.inputs if source == "input" else self.outputs


def make_reference(declaration: Declaration, rows: Rows, check: Rows | None = None) -> DriftReference:
    """Count the data and, where there are labels and a signal ``confidence``, calibrate it.

    Args:
        declaration: what is monitored.
        rows: the reference data.
        check: labelled rows of their own for the check of the calibration; None checks on halves of ``rows``.

    Raises:
        DriftReferenceError: a signal can't be taken from this data, or could never be judged; the text names it.
    """
    specs, embeddings = _specs(declaration, rows)
    try:
        reference = build_reference(
            specs,
            inputs=rows.inputs,
            outputs=rows.outputs,
            dataset_sha256=rows.sha256,
            policy=declaration.policy,
            embeddings=embeddings,
        )
        if rows.labels is not None:
            reference = with_calibration(reference, rows, check)
    except (DriftError, ProtocolError) as error:
        raise DriftReferenceError(str(error)) from error
    return reference


def with_calibration(reference: DriftReference, held_out: Rows, check: Rows | None = None) -> DriftReference:
    """The reference with the calibration of its first confidence signal; as it is where it has none.

    Args:
        reference: counted before.
        held_out: labelled rows that no training step has seen.
        check: other such rows for the check; None checks on halves.

    Raises:
        DriftReferenceError: labels do not fit the model's classes.
    """
    names = [signal.name for signal in reference.signals if signal.summary == "confidence"]
    if not names:
        return reference
    place = [signal.name for signal in reference.signals].index(names[0])
    calibration = calibrate(
        reference.signals[place],
        _labelled(reference, place, held_out),
        None if check is None else _labelled(reference, place, check),
    )
    return decode_reference(encode_reference(msgspec.structs.replace(reference, calibration=calibration)))


def _labelled(reference: DriftReference, place: int, rows: Rows) -> Labelled:
    signal = reference.signals[place]
    scores = rows.side(signal.source)[signal.tensor]
    flat = scores.reshape(len(scores), -1)
    if rows.labels is None or not len(rows.labels):
        raise DriftReferenceError("there are no labels, which a calibration is made of")
    if rows.labels.max() >= flat.shape[1]:
        raise DriftReferenceError(
            f"the labels go to {rows.labels.max()}, {signal.tensor!r} has {flat.shape[1]} classes: 0-{flat.shape[1] - 1}"
        )
    confidence = signal_values(reference, rows.inputs, rows.outputs)[:, place]
    return Labelled(confidence=confidence, correct=flat.argmax(axis=1) == rows.labels, group=rows.groups)


def _specs(declaration: Declaration, rows: Rows) -> tuple[list[SignalSpec], tuple[Components, ...]]:
    specs: list[SignalSpec] = []
    embeddings: dict[tuple[SignalSource, str], Components] = {}
    for name, signal in declaration.signals.items():
        source = source_of(signal)
        tensor = _tensor(name, signal, source, rows)
        if signal.summary != "projection":
            specs.append(_spec(name, signal, source, tensor, rows))
            continue
        if (source, tensor) in embeddings:
            raise DriftReferenceError(
                f"signals.{name}: tensor {tensor!r} has a projection already; one is allowed"
            )
        embeddings[source, tensor] = principal_components(
            source, tensor, rows.side(source)[tensor], signal.components
        )
        specs += [
            msgspec.structs.replace(
                _spec(name, signal, source, tensor, rows), name=f"{name}-{number}", index=number
            )
            for number in range(signal.components)
        ]
    return specs, tuple(embeddings.values())


def _spec(name: str, signal: SignalDeclaration, source: SignalSource, tensor: str, rows: Rows) -> SignalSpec:
    index = signal.index if signal.column is None else _place(name, signal.column, rows.columns)
    return SignalSpec(
        name=name,
        source=source,
        tensor=tensor,
        summary=signal.summary,
        index=index,
        layout=signal.layout,
        full_scale=signal.full_scale,
        missing_value=signal.missing_value,
        categories=_categories(name, signal, rows.side(source)[tensor], index),
        bins=signal.bins,
        spacing=signal.spacing,
    )


def _tensor(name: str, signal: SignalDeclaration, source: SignalSource, rows: Rows) -> str:
    names = list(rows.side(source))
    if signal.tensor is None and len(names) == 1:
        return names[0]
    if signal.tensor in names:
        return signal.tensor
    shown = (
        "is not set"
        if signal.tensor is None
        else f"= {signal.tensor!r}: is no {source} of the model or the data"
    )
    raise DriftReferenceError(
        f"signals.{name}: tensor {shown}; allowed: {_either(names) or 'none, there is no ' + source}"
    )


def _either(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _place(name: str, column: str, columns: tuple[str, ...]) -> int:
    if column not in columns:
        raise DriftReferenceError(
            f"signals.{name}: column = {column!r}: is no column of the data; allowed: {_either(columns) or 'none, no columns are named'}"
        )
    return columns.index(column)


def _categories(
    name: str, signal: SignalDeclaration, tensor: Array, index: int | None
) -> tuple[int, ...] | None:
    """The declared codes, or the most frequent ones of the data, ascending."""
    if signal.summary != "category":
        return None
    if signal.categories:
        return tuple(sorted(set(signal.categories)))
    flat = tensor.reshape(len(tensor), -1)
    if index is None or index >= flat.shape[1]:
        raise DriftReferenceError(
            f"signals.{name}: index = {index}: a row has {flat.shape[1]} elements, from 0"
        )
    values = flat[:, index].astype(np.float64)
    values = values[np.isfinite(values) & (values != signal.missing_value)]
    broken = values[values != np.round(values)]
    if broken.size:
        raise DriftReferenceError(
            f"signals.{name}: the data has {broken[0]:g}; a category is a whole number (for others use summary 'value')"
        )
    codes, counts = np.unique(values, return_counts=True)
    frequent = codes[np.argsort(-counts, kind="stable")][: signal.bins]
    return tuple(sorted(int(code) for code in frequent))
