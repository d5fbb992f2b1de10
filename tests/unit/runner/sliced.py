"""A drift log with slices by the parameter ``camera``."""

from collections.abc import Callable

import numpy as np

from agent.drift import ClosedWindow, Identity, SignalSpec, WindowBuilder, build_reference
from agent.protocol.drift import DriftPolicy, DriftReference, SlicePolicy
from agent.runner.drift_log import SlicedDriftLog
from agent.runner.slice_names import SliceNames
from agent.runner.slice_windows import SliceWindows

ROWS = np.random.default_rng(0).uniform(0, 1, (2_000, 2)).astype(np.float32)


def made(policy: DriftPolicy | None = None) -> DriftReference:
    """A reference of one signal."""
    return build_reference(
        [SignalSpec(name="x0", source="input", tensor="x", summary="value", index=0)],
        inputs={"x": ROWS},
        outputs={},
        dataset_sha256="0" * 64,
        policy=policy,
    )


def sliced(
    policy: DriftPolicy, told: Callable[[ClosedWindow], None] = lambda _: None, *, maximum: int = 8
) -> tuple[SlicedDriftLog, list[ClosedWindow]]:
    """The log, and the windows that it closes."""
    reference = made(policy)

    def identity(name: str | None) -> Identity:
        return Identity(model="m", release=1, deployment="d", artifact="0" * 64, slice=name)

    closed: list[ClosedWindow] = []
    slices = SliceWindows(lambda name: WindowBuilder(identity(name), reference))
    log = SlicedDriftLog(
        WindowBuilder(identity(None), reference, also=slices.take),
        closed.append,
        told,
        names=SliceNames(SlicePolicy(parameter="camera", maximum=maximum)),
        slices=slices,
        measure=lambda inputs, _: len(inputs["x"]),
    )
    return log, closed
