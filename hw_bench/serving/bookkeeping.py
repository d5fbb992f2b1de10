"""Drift bookkeeping on the request path: what one row of 64 signals costs, binning included."""

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from agent.drift import Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, DriftReference
from hw_bench.serving.pairs import spread
from hw_bench.serving.targets import Figure

SIGNALS = 64
LIMIT_US = 3.0
_REFERENCE_ROWS = 5_000
_REPETITIONS = 7
_NEVER = 10**9
"""Rows after which a window would close by itself; closing is measured apart."""


def measure_bookkeeping(rows: int) -> list[Figure]:
    """Microseconds a row (taken, copied and, each few hundred rows, binned), and milliseconds a closed window."""
    figures: list[Figure] = []
    for spacing in ("uniform", "quantile"):
        reference = _reference(spacing)
        figures.append(
            Figure(
                name=f"drift bookkeeping, {SIGNALS} signals, {spacing} bins",
                unit="µs a row",
                value=spread([_per_row(reference, rows) for _ in range(_REPETITIONS)]),
                at_most=LIMIT_US,
                note="binning included",
            )
        )
        figures.append(
            Figure(
                name=f"closing a window, {SIGNALS} signals, {spacing} bins",
                unit="ms",
                value=spread([_closing(reference) for _ in range(_REPETITIONS)]),
                note="once in 500 rows by default",
            )
        )
    return figures


def _builder(reference: DriftReference) -> WindowBuilder:
    identity = Identity(model="bench", release=1, deployment="bench", artifact="0" * 64)
    return WindowBuilder(identity, reference)


def _reference(spacing: Literal["uniform", "quantile"]) -> DriftReference:
    rng = np.random.default_rng(7)
    specs = [
        SignalSpec(
            name=f"s{index}", source="input", tensor="x", summary="value", index=index, spacing=spacing
        )
        for index in range(SIGNALS)
    ]
    return build_reference(
        specs,
        inputs={"x": rng.normal(size=(_REFERENCE_ROWS, SIGNALS)).astype(np.float32)},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=_NEVER),
    )


def _per_row(reference: DriftReference, rows: int) -> float:
    builder = _builder(reference)
    feeds = _feeds(256)
    _take(builder, feeds, 512)
    return _timed(lambda: _take(builder, feeds, rows)) / rows * 1e6


def _closing(reference: DriftReference) -> float:
    builder = _builder(reference)
    _take(builder, _feeds(256), 512)
    return _timed(lambda: builder.close(1.0)) * 1e3


def _feeds(count: int) -> list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
    rng = np.random.default_rng(11)
    return [{"x": rng.normal(size=(1, SIGNALS)).astype(np.float32)} for _ in range(count)]


def _take(
    builder: WindowBuilder,
    feeds: list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]],
    rows: int,
) -> None:
    nothing: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}
    for row in range(rows):
        builder.add(feeds[row % len(feeds)], nothing, 1.0)
        builder.due(1.0)


def _timed(work: Callable[[], object]) -> float:
    before = time.perf_counter()
    work()
    return time.perf_counter() - before
