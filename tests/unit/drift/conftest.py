from collections.abc import Callable

import numpy as np
import pytest

from agent.drift import Identity, SignalSpec, build_reference
from agent.drift.signals import Tensors
from agent.protocol.drift import DriftPolicy, DriftReference

Batch = Callable[..., tuple[Tensors, Tensors]]

SPECS = (
    SignalSpec(name="brightness", source="input", tensor="image", summary="mean"),
    SignalSpec(name="sharpness", source="input", tensor="image", summary="gradient"),
    SignalSpec(name="corner", source="input", tensor="image", summary="value", index=0, spacing="quantile"),
    SignalSpec(name="confidence", source="output", tensor="scores", summary="confidence"),
    SignalSpec(name="class", source="output", tensor="scores", summary="argmax"),
)


@pytest.fixture
def identity() -> Identity:
    return Identity(model="digits", release=1, deployment="d-1", artifact="a" * 64)


@pytest.fixture
def batch() -> Batch:
    """Images of 4 x 4 and scores of 5 classes; ``shift`` moves the brightness, ``favour`` the class."""
    random = np.random.default_rng(7)

    def make(rows: int, shift: float = 0.0, favour: int | None = None) -> tuple[Tensors, Tensors]:
        scores = random.dirichlet(np.ones(5), rows).astype(np.float32)
        if favour is not None:
            scores[:, favour] += 1
        images = random.normal(shift, 1.0, (rows, 4, 4)).astype(np.float32)
        return {"image": images}, {"scores": scores}

    return make


@pytest.fixture
def reference(batch: Batch) -> DriftReference:
    inputs, outputs = batch(2000)
    return build_reference(
        SPECS,
        inputs=inputs,
        outputs=outputs,
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=400, window_seconds=60.0),
    )
