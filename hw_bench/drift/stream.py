"""The stream that all are given, and the reference that ours is counted against."""

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.drift import Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, DriftReference

Spacing = Literal["uniform", "quantile"]
Stream = NDArray[np.float32]

SIGNALS = 64
BINS = 20
REFERENCE_ROWS = 10_000
BATCH = 256
"""Rows in a batch, where rows come in batches."""


def stream(rows: int, seed: int = 11) -> Stream:
    """Shape (rows, :data:`SIGNALS`): as many kinds of numbers as sensors have."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(rows, SIGNALS))
    found[:, 16:32] = random.exponential(size=(rows, 16))
    found[:, 32:40] = random.integers(0, 12, size=(rows, 8))
    found[:, 40:48] = random.beta(8, 1, size=(rows, 8))
    return found.astype(np.float32)


def reference(spacing: Spacing, window_rows: int = 500) -> DriftReference:
    """Of :data:`SIGNALS` signals with :data:`BINS` bins each (fewer where quantiles coincide)."""
    specs = [
        SignalSpec(
            name=f"feature-{index:02}",
            source="input",
            tensor="x",
            summary="value",
            index=index,
            bins=BINS,
            spacing=spacing,
        )
        for index in range(SIGNALS)
    ]
    return build_reference(
        specs,
        inputs={"x": stream(REFERENCE_ROWS, seed=7)},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=window_rows, window_seconds=1e9),
    )


def builder(signed: DriftReference) -> WindowBuilder:
    """With everything that a runner's has."""
    digest = hashlib.sha256(b"a model").hexdigest()  # deflates as badly as a real one
    identity = Identity(model="bench", release=12, deployment="rollout-7.camera-1", artifact=digest)
    return WindowBuilder(identity, signed)
