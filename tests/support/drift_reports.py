"""A technician's drift report without a device: made by the device's own code from rows that were drawn."""

import msgspec
import numpy as np

from agent.drift import SignalSpec, WindowBuilder, build_reference, judge
from agent.drift.window import Identity
from agent.protocol.control import DriftMark, DriftReport, DriftSignal
from agent.protocol.drift import Alarm, DriftPolicy, DriftReference, DriftWindow

NAMES = ("brightness", "contrast", "sharpness", "noise", "humidity")
DIGEST = "a" * 64
OPENED = 1_795_000_000.0


def reference(rows: int = 2_000) -> DriftReference:
    """Five signals of which each lies around a number of its own."""
    return build_reference(
        [
            SignalSpec(name=name, source="input", tensor="row", summary="value", index=place)
            for place, name in enumerate(NAMES)
        ],
        inputs={"row": drawn(rows, 1)},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=500),
    )


def drawn(rows: int, seed: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Shape (rows, signals)."""
    random = np.random.default_rng(seed)
    return np.stack([random.normal(place + 1.0, 0.1, rows) for place in range(len(NAMES))], axis=1)


def window(
    made: DriftReference,
    *,
    rows: int = 500,
    sharpness: float = 1.0,
    closed: float = OPENED + 3_600,
    slice_: str | None = None,
) -> DriftWindow:
    """``sharpness``: what a lens leaves of it."""
    builder = WindowBuilder(
        Identity(model="digits", release=2, deployment="d2", artifact=DIGEST, slice=slice_), made
    )
    values = drawn(rows, 7)
    values[:, 2] *= sharpness
    builder.add({"row": values}, {}, closed - 3_600)
    found = builder.close(closed)
    assert found is not None
    return found.window


def report(*, rows: int = 500, sharpness: float = 0.9, history: int = 8) -> DriftReport:
    """Of a camera whose lens got dirty in the middle of its history."""
    made = reference()
    newest = window(made, rows=rows, sharpness=sharpness)
    alarm = Alarm(level=newest.verdict.level, since=newest.closed - 4 * 3_600, windows=4)
    newest = msgspec.structs.replace(newest, alarm=alarm)
    judged = judge(made, newest.signals, newest.rows).signals
    order = sorted(made.signals, key=lambda each: -judged[each.name].psi)
    marks = [
        DriftMark(
            closed=newest.closed - (history - 1 - place) * 3_600,
            level=newest.verdict.level if place >= history // 2 else "ok",
            rows=rows,
            release=2,
            incomplete=place == 1,
        )
        for place in range(history)
    ]
    return DriftReport(
        model="digits",
        window=newest,
        signals=tuple(
            DriftSignal(reference=each, counts=newest.signals[each.name], verdict=judged[each.name])
            for each in order
        ),
        reference_rows=made.rows,
        policy=made.policy,
        history=tuple(marks),
        slices=(
            window(made, slice_="site=north"),
            window(made, sharpness=sharpness, slice_="site=south"),
        ),
    )
