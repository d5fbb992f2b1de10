"""Signals: one number a row, taken from an input or output tensor (:data:`agent.protocol.drift.Summary`)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from agent.drift.elements import Elements
from agent.drift.embeddings import projections
from agent.drift.errors import SignalError
from agent.drift.summaries import ELEMENT_SUMMARIES, PICTURE_SUMMARIES, Summarise, summary_of
from agent.drift.views import COLOURS, Array, Floats, Views, channels_of, elements_of, picture_shape
from agent.protocol.drift import Components, SignalReference, SignalSource
from agent.protocol.manifest import TensorSpec

Tensors = Mapping[str, Array]
TensorKey = tuple[SignalSource, str]


class Extractor:
    """Takes every signal of one reference from tensors; compiled once, used for each batch.

    Attributes:
        tensors: the tensors that are read, each once, as (source, name).
    """

    def __init__(self, signals: Sequence[SignalReference], embeddings: Sequence[Components] = ()) -> None:
        """``embeddings``: those of the reference, where a signal is a ``projection``."""
        self._width = len(signals)
        by_tensor: dict[TensorKey, list[tuple[int, SignalReference]]] = {}
        for column, signal in enumerate(signals):
            by_tensor.setdefault((signal.source, signal.tensor), []).append((column, signal))
        self.tensors: tuple[TensorKey, ...] = tuple(by_tensor)
        found = {(one.source, one.tensor): one for one in embeddings}
        self._plans = {key: _TensorPlan(members, found.get(key)) for key, members in by_tensor.items()}

    def values(self, tensors: Mapping[TensorKey, Array]) -> Floats:
        """The signal matrix, shape (rows, signals), float64; not finite where a row does not have the signal.

        In columns with a ``missing_value``, rows that had it are :data:`agent.drift.binning.MISSING`.

        Raises:
            SignalError: a tensor is absent, has no batch axis, is not numeric, lacks an element that is asked
                for, is no picture of the layout, or the tensors disagree on the number of rows.
        """
        rows = self.check(tensors)
        matrix = np.empty((rows, self._width), dtype=np.float64)
        # Infinities and NaN are data here: they end as "missing", not as warnings.
        with np.errstate(all="ignore"):
            for key, plan in self._plans.items():
                plan.fill(matrix, tensors[key])
        return matrix

    def check(self, tensors: Mapping[TensorKey, Array]) -> int:
        """The rows of a batch that :meth:`values` can take; raises as it does, and computes nothing."""
        rows = batch_rows(tensors, self.tensors)
        for key, plan in self._plans.items():
            plan.check(tensors[key])
        return rows


class _TensorPlan:
    """The signals of one tensor: single elements in one gather, summaries one by one."""

    def __init__(self, members: list[tuple[int, SignalReference]], embedding: Components | None) -> None:
        self._elements = Elements(
            [(column, signal) for column, signal in members if signal.summary in ELEMENT_SUMMARIES]
        )
        self._others = [signal for _, signal in members if signal.summary not in ELEMENT_SUMMARIES]
        vectors = projections(embedding)
        self._summaries: list[tuple[int, Summarise]] = []
        for column, signal in members:
            if signal.summary in ELEMENT_SUMMARIES:
                continue
            mean, component = vectors.get(signal.index or 0, (None, None))
            self._summaries.append((column, summary_of(signal, component, mean)))
        self._embedded = None if embedding is None else len(embedding.mean) // _FLOAT32

    def check(self, tensor: Array) -> None:
        shape = tensor.shape[1:]
        width = math.prod(shape)
        self._elements.check(width)
        for signal in self._others:
            if signal.summary in PICTURE_SUMMARIES:
                picture_shape(shape, signal.layout or "HW")
            if signal.summary == "projection" and width != self._embedded:
                raise SignalError(
                    f"signal {signal.name}: a row has {width} elements, the reference's components {self._embedded}"
                )

    def fill(self, matrix: Floats, tensor: Array) -> None:
        rows = len(tensor)
        if rows == 0:
            return
        self._elements.fill(matrix, tensor.reshape(rows, -1))
        if self._summaries:
            views = Views(tensor)
            for column, summarise in self._summaries:
                matrix[:, column] = summarise(views)


_FLOAT32 = 4
"""Bytes."""


def batch_rows(tensors: Mapping[TensorKey, Array], keys: Sequence[TensorKey]) -> int:
    """Rows (length of the first axis) that all tensors of ``keys`` share; raises as :meth:`Extractor.values`."""
    rows: int | None = None
    for source, name in keys:
        tensor = tensors.get((source, name))
        if tensor is None:
            raise SignalError(
                f"{source} tensor {name!r} is absent, the drift reference takes signals from it"
            )
        if tensor.ndim == 0 or tensor.dtype.kind not in "biuf":
            raise SignalError(
                f"{source} tensor {name!r}: {tensor.dtype} of shape {tensor.shape}; "
                "a number tensor with a batch axis is needed"
            )
        if rows is not None and len(tensor) != rows:
            raise SignalError(
                f"{source} tensor {name!r} has {len(tensor)} rows, the tensor before it has {rows}"
            )
        rows = len(tensor)
    return rows or 0


def keyed(inputs: Tensors, outputs: Tensors) -> dict[TensorKey, Array]:
    """One mapping of both sides."""
    both: dict[TensorKey, Array] = {("input", name): tensor for name, tensor in inputs.items()}
    both.update({("output", name): tensor for name, tensor in outputs.items()})
    return both


def check_tensors(
    signals: Sequence[SignalReference],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    embeddings: Sequence[Components] = (),
) -> None:
    """Check, before anything is served, that the model has every tensor the signals are taken from.

    Raises:
        SignalError: a tensor is absent, of BYTES, without a batch axis, lacks the element, is no picture of the layout
            or no embedding of the components' size; all are named.
    """
    specs = {("input", spec.name): spec for spec in inputs} | {
        ("output", spec.name): spec for spec in outputs
    }
    sizes = {(one.source, one.tensor): len(one.mean) // _FLOAT32 for one in embeddings}
    problems = [text for signal in signals if (text := _problem(signal, specs, sizes))]
    if problems:
        raise SignalError("; ".join(problems))


def _problem(
    signal: SignalReference,
    specs: Mapping[tuple[str, str], TensorSpec],
    sizes: Mapping[tuple[SignalSource, str], int],
) -> str | None:
    spec = specs.get((signal.source, signal.tensor))
    where = f"signal {signal.name}"
    if spec is None:
        return f"{where}: the model has no {signal.source} tensor {signal.tensor!r}"
    if spec.datatype == "BYTES" or not spec.shape:
        return f"{where}: {signal.tensor!r} is {spec.datatype} of shape {spec.shape}, not numbers with a batch axis"
    text = _shape_problem(signal, tuple(spec.shape[1:]), sizes.get((signal.source, signal.tensor)))
    return f"{where}: {text}" if text else None


def _shape_problem(signal: SignalReference, shape: tuple[int, ...], embedded: int | None) -> str | None:
    """Why the signal can't be taken from rows of ``shape``; sizes of -1 are open, and found out with the rows."""
    elements = elements_of(shape)
    if signal.summary in ELEMENT_SUMMARIES and elements is not None and (signal.index or 0) >= elements:
        return f"element {signal.index} is asked for, a row of {signal.tensor!r} has {elements}"
    if signal.summary == "margin" and elements is not None and elements < _TWO:
        return f"a margin needs two elements, a row of {signal.tensor!r} has {elements}"
    if signal.summary == "projection" and elements is not None and elements != embedded:
        return f"a row of {signal.tensor!r} has {elements} elements, the reference's components {embedded}"
    return _picture_problem(signal, shape) if signal.summary in PICTURE_SUMMARIES else None


def _picture_problem(signal: SignalReference, shape: tuple[int, ...]) -> str | None:
    try:
        channels = channels_of(shape, signal.layout or "HW")
    except SignalError as error:
        return f"{signal.tensor!r}: {error}"
    if signal.summary == "saturation" and channels != -1 and channels < COLOURS:
        return f"saturation needs red, green and blue, {signal.tensor!r} has {channels} channels"
    return None


_TWO = 2
