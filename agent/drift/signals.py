"""Signals: one number a row, taken from an input or output tensor (:data:`agent.protocol.drift.Summary`)."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agent.drift.errors import SignalError
from agent.protocol.drift import SignalReference, SignalSource, Summary
from agent.protocol.manifest import TensorSpec

Array = NDArray[np.generic]
Floats = NDArray[np.float64]
Tensors = Mapping[str, Array]
TensorKey = tuple[SignalSource, str]


class Extractor:
    """Takes every signal of one reference from tensors; compiled once, used for each batch.

    Attributes:
        tensors: the tensors that are read, each once, as (source, name).
    """

    def __init__(self, signals: Sequence[SignalReference]) -> None:
        self._width = len(signals)
        by_tensor: dict[TensorKey, list[tuple[int, SignalReference]]] = {}
        for column, signal in enumerate(signals):
            by_tensor.setdefault((signal.source, signal.tensor), []).append((column, signal))
        self.tensors: tuple[TensorKey, ...] = tuple(by_tensor)
        self._plans = {key: _TensorPlan(members) for key, members in by_tensor.items()}

    def values(self, tensors: Mapping[TensorKey, Array]) -> Floats:
        """The signal matrix, shape (rows, signals), float64; NaN where a row does not have the signal.

        Raises:
            SignalError: a tensor is absent, has no batch axis, is not numeric, lacks an element that is asked
                for, or the tensors disagree on the number of rows.
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
    """The signals of one tensor: plain elements in one gather, summaries one by one."""

    def __init__(self, members: list[tuple[int, SignalReference]]) -> None:
        elements = [(column, signal) for column, signal in members if signal.summary == "value"]
        indices = [signal.index or 0 for _, signal in elements]
        self._columns = _run([column for column, _ in elements])
        self._elements = _run(indices)
        self._last = max(indices, default=-1)
        self._names = [signal.name for _, signal in elements]
        self._summaries = [
            (column, SUMMARIES[signal.summary]) for column, signal in members if signal.summary != "value"
        ]

    def check(self, tensor: Array) -> None:
        width = math.prod(tensor.shape[1:])
        if self._last >= width:
            raise SignalError(
                f"signals {', '.join(self._names)}: element {self._last} is asked for, a row has {width}"
            )

    def fill(self, matrix: Floats, tensor: Array) -> None:
        rows = len(tensor)
        if rows == 0:
            return
        flat = tensor.reshape(rows, -1)
        if self._names:
            matrix[:, self._columns] = flat[:, self._elements]
        if self._summaries:
            exact = tensor.astype(np.float64)
            for column, summarise in self._summaries:
                matrix[:, column] = summarise(exact)


def _run(places: list[int]) -> slice | NDArray[np.intp]:
    """The same places as a slice where they are consecutive, which is copied several times as fast."""
    if places and places == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, dtype=np.intp)


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
    signals: Sequence[SignalReference], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Check, before anything is served, that the model has every tensor the signals are taken from.

    Raises:
        SignalError: a tensor is absent, of BYTES, without a batch axis, or lacks the element; all are named.
    """
    specs = {("input", spec.name): spec for spec in inputs} | {
        ("output", spec.name): spec for spec in outputs
    }
    problems = [text for signal in signals if (text := _problem(signal, specs))]
    if problems:
        raise SignalError("; ".join(problems))


def _problem(signal: SignalReference, specs: Mapping[tuple[str, str], TensorSpec]) -> str | None:
    spec = specs.get((signal.source, signal.tensor))
    where = f"signal {signal.name}"
    if spec is None:
        return f"{where}: the model has no {signal.source} tensor {signal.tensor!r}"
    if spec.datatype == "BYTES" or not spec.shape:
        return f"{where}: {signal.tensor!r} is {spec.datatype} of shape {spec.shape}, not numbers with a batch axis"
    elements = int(np.prod(spec.shape[1:])) if -1 not in spec.shape[1:] else None
    if signal.index is not None and elements is not None and signal.index >= elements:
        return f"{where}: element {signal.index} is asked for, a row of {signal.tensor!r} has {elements}"
    return None


# Each summary takes float64 of shape (rows, …), rows > 0, and gives float64 of shape (rows,). A row is reduced along
# a contiguous axis of its own, so that the result does not depend on the batch the row came in.


def _flat(tensor: Floats) -> Floats:
    return np.ascontiguousarray(tensor.reshape(len(tensor), -1))


def _mean(tensor: Floats) -> Floats:
    flat = _flat(tensor)
    result: Floats = flat.sum(axis=1) / (flat.shape[1] or np.nan)
    return result


def _std(tensor: Floats) -> Floats:
    flat = _flat(tensor)
    return np.sqrt(_mean((flat - _mean(flat)[:, None]) ** 2))


def _gradient(tensor: Floats) -> Floats:
    total, pairs = np.zeros(len(tensor)), 0
    for axis in range(max(1, tensor.ndim - 2), tensor.ndim):
        steps = _flat(np.abs(np.diff(tensor, axis=axis)))
        total = total + steps.sum(axis=1)
        pairs += steps.shape[1]
    # One pixel has no neighbour: no gradient, which is missing and not zero.
    result: Floats = total / (pairs or np.nan)
    return result


def _confidence(tensor: Floats) -> Floats:
    flat = _flat(tensor)
    if flat.shape[1] == 0:
        return np.full(len(flat), np.nan)
    result: Floats = flat.max(axis=1)
    return result


def _argmax(tensor: Floats) -> Floats:
    flat = _flat(tensor)
    if flat.shape[1] == 0:
        return np.full(len(flat), np.nan)
    # numpy calls the first NaN the largest element; a row with one has no class.
    return np.where(np.isfinite(flat).all(axis=1), flat.argmax(axis=1).astype(np.float64), np.nan)


def _entropy(tensor: Floats) -> Floats:
    """Shannon entropy in nats of each row divided by its sum; NaN where an element is negative or all are zero.

    Dividing by the sum keeps the meaning for quantised probabilities (uint8 counts of 1/256).
    """
    flat = _flat(tensor)
    total = flat.sum(axis=1)
    shares = flat / total[:, None]
    logs = np.log(np.where(shares > 0, shares, 1.0))
    entropy = np.maximum(-(shares * logs).sum(axis=1), 0.0)
    return np.where((flat >= 0).all(axis=1) & (total > 0), entropy, np.nan)


SUMMARIES: dict[Summary, Callable[[Floats], Floats]] = {
    "mean": _mean,
    "std": _std,
    "gradient": _gradient,
    "confidence": _confidence,
    "argmax": _argmax,
    "entropy": _entropy,
}
