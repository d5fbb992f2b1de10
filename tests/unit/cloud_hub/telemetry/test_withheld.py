"""Counts that a device has suppressed or noised are merged and judged like others; the hub's check of their layout holds."""

import random

import numpy as np
import pytest
from msgspec.structs import replace

from agent.core.privacy import noise, noise_scale, suppress
from agent.drift import SignalSpec, build_reference, check_counts
from agent.drift.merge import merge_counts
from agent.drift.verdict import judge
from agent.protocol.drift import DriftPolicy, DriftReference, DriftWindow, SignalCounts, Withheld
from cloud_hub.telemetry.adding import Day, add
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, merge_fleet
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.rollups import _body
from cloud_hub.telemetry.withheld import filled

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


@pytest.fixture(scope="module")
def uniform() -> DriftReference:
    spec = SignalSpec(name="x", source="input", tensor="x", summary="value", index=0, bins=20)
    return build_reference(
        [spec],
        inputs={"x": np.random.default_rng(1).uniform(size=(20_000, 1))},
        outputs={},
        dataset_sha256="0" * 64,
    )


def told(uniform: DriftReference, minimum: int, seed: int, moved: int = 0) -> DriftWindow:
    """500 rows in 20 bins, of which the first ``moved`` are empty; judged by the device before small counts are hidden."""
    shares = np.r_[np.zeros(moved), np.ones(20 - moved)] / (20 - moved)
    cells = np.random.default_rng(seed).multinomial(500, shares).tolist()
    exact = {"x": SignalCounts(counts=(0, *cells, 0))}
    return DriftWindow(
        model="digits",
        release=1,
        deployment="d1",
        artifact="a" * 64,
        opened=0.0,
        closed=60.0,
        rows=500,
        signals={"x": suppress(exact["x"], minimum)},
        verdict=judge(uniform, exact, 500).verdict,
        withheld=Withheld(mechanism="suppressed", parameter=float(minimum)),
    )


@pytest.mark.parametrize("minimum", [5, 10, 20])
@pytest.mark.parametrize(("moved", "level"), [(0, "ok"), (10, "drift")])
def test_what_is_hidden_speaks_neither_for_drift_nor_against_it(
    uniform: DriftReference, minimum: int, moved: int, level: str
) -> None:
    windows = [told(uniform, minimum, seed, moved) for seed in range(50)]
    assert {each.verdict.level for each in windows} == {level}
    parts = [
        DeviceCounts(device=f"cam-{number:02}", rows=500, signals=each.signals)
        for number, each in enumerate(windows)
    ]
    parts[0] = replace(parts[0], altered=True)
    verdict = merge_fleet(uniform, parts).verdict
    assert verdict is not None
    assert "1 of 50 send counts that are suppressed or noised" in verdict.text
    assert (verdict.level, verdict.raw.level, verdict.left_out) == (level, level, ())
    day = Day()
    for each in windows:
        day = add(day, each, 60.0, uniform)
    assert judged(uniform, day.signals, day.rows).verdict.level == level
    assert {_body(each, uniform)[1] for each in windows} == {level}


def test_filled_counts_add_up_to_the_same_rows(uniform: DriftReference) -> None:
    for seed in range(20):
        counts = told(uniform, 20, seed).signals
        assert counts["x"].withheld
        full = filled(uniform, counts)
        assert full["x"].withheld == 0
        check_counts(uniform, full, 500)
        assert all(new >= old for new, old in zip(full["x"].counts, counts["x"].counts, strict=True))


def test_a_device_is_not_believed_against_what_its_own_counts_tell(uniform: DriftReference) -> None:
    drifting, well = told(uniform, 10, 1, moved=10), told(uniform, 10, 2)
    liar = replace(drifting, verdict=well.verdict)
    assert _body(liar, uniform)[1] == "drift"
    noised = replace(liar, withheld=Withheld(mechanism="noised", parameter=2.0))
    assert _body(noised, uniform)[1] == "ok"
