"""Probe: golden outputs compared on this device, and the latency of single rows."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from agent.protocol.codec import decode_msgpack
from agent.protocol.errors import ProtocolError
from agent.protocol.golden import GoldenVectors, Tensor
from agent.protocol.manifest import TensorSpec
from agent.protocol.runner import Probe, ProbeReport
from agent.runner.backends import BYTES, Array, Backend, InferenceError
from agent.runner.errors import ProbeError, RequestError
from agent.runner.openinference import Contract
from agent.runner.tensors import check_rows, check_size, check_tensor, from_binary

MAX_GOLDEN_BYTES = 64 * 1024 * 1024

_CLASS_RANK = 2
"""Outputs of at least this rank are taken as (rows, classes)."""


def run_probe(
    probe: Probe,
    *,
    backend: Backend,
    contract: Contract,
    variant: str,
    clock: Callable[[], float] = time.perf_counter,
) -> ProbeReport:
    """Compare with the golden vectors, then time single rows.

    Raises:
        ProbeError: ``golden-unreadable``, ``golden-malformed``, ``golden-variant-missing`` or ``inference-failed``.
    """
    golden = read_golden(Path(probe.golden_path))
    inputs = golden_inputs(golden, contract)
    if variant not in golden.expected:
        known = ", ".join(sorted(golden.expected))
        raise ProbeError(
            "golden-variant-missing",
            f"golden vectors have no outputs of variant {variant!r}; they have: {known}",
        )
    rows = _rows(inputs)
    try:
        answered = _infer_rows(backend, contract.inputs, inputs, rows)
        error, agreement = compare(golden.expected[variant], answered)
        durations = _time(probe, backend, inputs, rows, clock)
    except InferenceError as failed:
        raise ProbeError("inference-failed", str(failed)) from failed
    return ProbeReport(
        golden_max_error=error,
        golden_class_agreement=agreement,
        golden_rows=rows,
        p50_ms=_nearest_rank(durations, 0.50) * 1e3,
        p99_ms=_nearest_rank(durations, 0.99) * 1e3,
        repetitions=len(durations),
    )


def read_golden(path: Path) -> GoldenVectors:
    """Read and decode a golden file.

    Raises:
        ProbeError: ``golden-unreadable`` or ``golden-malformed``.
    """
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_GOLDEN_BYTES + 1)
    except OSError as error:
        raise ProbeError("golden-unreadable", f"golden vectors {path}: {error.strerror}") from error
    try:
        golden: GoldenVectors = decode_msgpack(payload, GoldenVectors, limit=MAX_GOLDEN_BYTES)
    except ProtocolError as error:
        raise ProbeError("golden-malformed", f"golden vectors {path}: {error}") from error
    return golden


def golden_inputs(golden: GoldenVectors, contract: Contract) -> dict[str, Array]:
    """The inputs as arrays of the same number of rows (at least one).

    Raises:
        ProbeError: ``golden-malformed``: they are not the inputs that the manifest declares.
    """
    given = {tensor.name: tensor for tensor in golden.inputs}
    if sorted(given) != sorted(contract.input_by_name):
        raise ProbeError(
            "golden-malformed",
            f"golden vectors give {', '.join(sorted(given))}; the model takes {', '.join(sorted(contract.input_by_name))}",
        )
    # A model of a fixed batch of one is fed row by row, so its golden file may hold any number of rows.
    batched = tuple(_batched(spec) for spec in contract.inputs)
    try:
        inputs = {spec.name: _array(spec, given[spec.name]) for spec in batched}
        check_rows(batched, {name: array.shape for name, array in inputs.items()})
    except RequestError as error:
        raise ProbeError("golden-malformed", f"golden vectors: {error}") from error
    return inputs


def compare(expected: Sequence[Tensor], answered: Mapping[str, Array]) -> tuple[float, float]:
    """(largest |difference|, share of rows with the same arg-max).

    The difference is ``inf`` where a value is not finite or a shape or data type differs. The arg-max is taken along
    the last axis of each output of rank 2 or more, the smallest share counts, and a row with a value that is not
    finite never agrees; without such an output it is 1 exactly if the shapes agree. Of BYTES, a value that differs is a
    difference of ``inf``, and a row agrees when all of its values do.
    """
    worst, agreement = 0.0, 1.0
    for tensor in expected:
        got = answered.get(tensor.name)
        try:
            want = _array(TensorSpec(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape), tensor)
        except (RequestError, KeyError) as error:
            raise ProbeError("golden-malformed", f"golden vectors: {error}") from error
        if got is None or got.shape != want.shape or got.dtype != want.dtype:
            return math.inf, 0.0
        if got.size:
            difference, share = _texts(got, want) if tensor.datatype == BYTES else _numbers(got, want)
            worst, agreement = max(worst, difference), min(agreement, share)
    return worst, agreement


def _numbers(got: Array, want: Array) -> tuple[float, float]:
    finite = np.isfinite(got) & np.isfinite(want)
    difference = math.inf
    if finite.all():
        difference = float(np.max(np.abs(got.astype(np.float64) - want.astype(np.float64))))
    if got.ndim < _CLASS_RANK:
        return difference, 1.0
    same = (got.argmax(axis=-1) == want.argmax(axis=-1)) & finite.all(axis=-1)
    return difference, float(same.mean())


def _texts(got: Array, want: Array) -> tuple[float, float]:
    same = got == want
    rows = same.reshape(same.shape[0], -1).all(axis=1) if same.ndim else same
    return 0.0 if same.all() else math.inf, float(np.mean(rows))


def _batched(spec: TensorSpec) -> TensorSpec:
    return TensorSpec(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.shape[1:]))


def _array(spec: TensorSpec, tensor: Tensor) -> Array:
    shape = check_tensor(spec, tensor.datatype, tensor.shape)
    check_size(spec, shape, len(tensor.data))
    return from_binary(spec, shape, tensor.data, 0, len(tensor.data))


def _rows(inputs: Mapping[str, Array]) -> int:
    return int(next(iter(inputs.values())).shape[0])


def _row(inputs: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {name: array[index : index + 1] for name, array in inputs.items()}


def _infer_rows(
    backend: Backend, specs: Sequence[TensorSpec], inputs: dict[str, Array], rows: int
) -> dict[str, Array]:
    if all(spec.shape[0] == -1 for spec in specs):
        return backend.infer(inputs)
    answers = [backend.infer(_row(inputs, index)) for index in range(rows)]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _time(
    probe: Probe, backend: Backend, inputs: dict[str, Array], rows: int, clock: Callable[[], float]
) -> list[float]:
    """Durations in seconds, ascending; fewer than asked for where the limit can't be kept any more.

    The p99 of those measured is then over the limit too: a nearest rank only moves up as others are added.
    """
    single = [_row(inputs, index) for index in range(rows)]
    for index in range(probe.warmup):
        backend.infer(single[index % rows])
    repetitions = max(1, probe.repetitions)
    limit = math.inf if probe.p99_limit_ms is None else probe.p99_limit_ms / 1e3
    may_be_slower = repetitions - _rank(repetitions, 0.99)
    durations: list[float] = []
    slower = 0
    while len(durations) < repetitions and slower <= may_be_slower:
        row = single[len(durations) % rows]
        begun = clock()
        backend.infer(row)
        durations.append(clock() - begun)
        slower += durations[-1] > limit
    return sorted(durations)


def _rank(count: int, share: float) -> int:
    """Nearest rank, from 1."""
    return math.ceil(share * count)


def _nearest_rank(ascending: Sequence[float], share: float) -> float:
    return ascending[_rank(len(ascending), share) - 1]
