"""Counts that a device has suppressed or noised are merged and judged like others; the hub's check of their layout holds."""

import random

import numpy as np
import pytest

from agent.core.privacy import noise, noise_scale, suppress
from agent.drift import SignalSpec, build_reference, check_counts
from agent.drift.merge import merge_counts
from agent.protocol.drift import DriftPolicy, DriftReference, SignalCounts
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, merge_fleet

ROWS = 1000
RANDOM = np.random.default_rng(3)


def values(rows: int, shift: float = 0.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return RANDOM.normal(shift, 1.0, (rows, 2))


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    specs = [
        SignalSpec(name=f"x{index}", source="input", tensor="x", summary="value", index=index)
        for index in range(2)
    ]
    return build_reference(
        specs,
        inputs={"x": values(20_000)},
        outputs={},
        dataset_sha256="0" * 64,
        policy=DriftPolicy(window_rows=ROWS, minimum_rows=300),
    )


def counted(reference: DriftReference, shift: float = 0.0) -> dict[str, SignalCounts]:
    found = {}
    rows = values(ROWS, shift)
    for column, signal in enumerate(reference.signals):
        edges = np.array(signal.edges)
        slots = np.searchsorted(edges, rows[:, column], side="right")
        found[signal.name] = SignalCounts(counts=tuple(np.bincount(slots, minlength=len(edges) + 1).tolist()))
    return found


@pytest.mark.parametrize(("shift", "level"), [(0.0, "ok"), (1.5, "drift")])
def test_suppressed_counts_of_a_fleet(reference: DriftReference, shift: float, level: str) -> None:
    told = [
        {name: suppress(counts, 5) for name, counts in counted(reference, shift).items()} for _ in range(5)
    ]
    assert any(counts.withheld for part in told for counts in part.values())
    for part in told:
        check_counts(reference, part, ROWS)
    merged = merge_fleet(
        reference,
        [DeviceCounts(device=f"cam-{number}", rows=ROWS, signals=part) for number, part in enumerate(told)],
    )
    assert merged.unusable == {}
    assert merged.verdict is not None
    assert merged.verdict.level == level
    total = merge_counts(part["x0"] for part in told)
    assert sum(total.counts) + total.withheld == 5 * ROWS
    check_counts(reference, merged.robust, 5 * ROWS)


def test_noised_counts_of_a_fleet(reference: DriftReference) -> None:
    source = random.Random(2)
    scale = noise_scale(2.0, 2)
    told = [
        {name: noise(counts, scale, source.randrange) for name, counts in counted(reference, 1.5).items()}
        for _ in range(5)
    ]
    for part in told:
        check_counts(reference, part, ROWS)
    merged = merge_fleet(
        reference,
        [DeviceCounts(device=f"cam-{number}", rows=ROWS, signals=part) for number, part in enumerate(told)],
    )
    assert merged.unusable == {}
    assert merged.verdict is not None
    assert merged.verdict.level == "drift"
