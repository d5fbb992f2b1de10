"""Fleets of counts: honest devices that differ, and hostile ones."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agent.drift.reference import SignalSpec, build_reference
from agent.protocol.drift import DriftReference, SignalCounts
from cloud_hub.telemetry.fleet_verdict import DeviceCounts

Floats = NDArray[np.float64]
BINS = 10


def reference(signals: int = 3) -> DriftReference:
    values = np.random.default_rng(3).normal(size=(6_000, signals)).astype(np.float32)
    specs = [
        SignalSpec(name=f"x{i}", source="input", tensor="x", summary="value", index=i, bins=BINS)
        for i in range(signals)
    ]
    return build_reference(specs, inputs={"x": values}, outputs={}, dataset_sha256="0" * 64)


def counts_of(bins: NDArray[np.int64]) -> SignalCounts:
    return SignalCounts(counts=(0, *(int(each) for each in bins), 0))


def honest(
    signed: DriftReference,
    devices: int,
    generator: np.random.Generator,
    *,
    rows: int | Callable[[], int] = 500,
    likeness: float = 300.0,
    shift: int = 0,
    prefix: str = "honest",
) -> list[DeviceCounts]:
    """Devices whose own distributions scatter around the reference's (Dirichlet: ``likeness`` times its shares), moved by
    ``shift`` bins where the whole world has drifted."""
    made = []
    for number in range(devices):
        size = rows() if callable(rows) else rows
        signals = {}
        for signal in signed.signals:
            shares = np.roll(np.array(signal.counts[1:-1], dtype=float), shift)
            own = generator.dirichlet(0.5 + likeness * shares / shares.sum())
            signals[signal.name] = counts_of(generator.multinomial(size, own))
        made.append(DeviceCounts(device=f"{prefix}-{number:03}", rows=size, signals=signals))
    return made


def hostile(
    signed: DriftReference, number: int, kind: str, rows: int, generator: np.random.Generator
) -> DeviceCounts:
    """One that lies: ``inverted``, ``one-bin``, ``outside``, ``missing``, ``random``, or ``calm``: exactly the reference."""
    signals = {}
    for signal in signed.signals:
        shares = np.array(signal.counts[1:-1], dtype=float)
        size = len(shares)
        if kind == "missing":
            signals[signal.name] = SignalCounts(counts=(0,) * (size + 2), missing=rows)
            continue
        if kind == "outside":
            signals[signal.name] = SignalCounts(counts=(rows, *(0,) * (size + 1)))
            continue
        if kind == "inverted":
            shares = np.roll(shares, size // 2) * np.linspace(0.01, 1, size) ** 4
        elif kind == "one-bin":
            shares = np.eye(size)[0]
        elif kind == "random":
            shares = generator.dirichlet(np.full(size, 0.3))
        whole = [int(share) for share in np.floor(shares / shares.sum() * rows)]
        whole[-1] += rows - sum(whole)
        signals[signal.name] = SignalCounts(counts=(0, *whole, 0))
    return DeviceCounts(device=f"hostile-{number:03}", rows=rows, signals=signals)
