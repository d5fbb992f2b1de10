"""Whatever up to a third of the devices claim, the fleet's verdict stands."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_hub.telemetry.fleet_verdict import merge_fleet
from cloud_hub.telemetry.robust import capped
from tests.support.drift_fleets import honest, hostile, reference

SIGNED = reference(2)
KINDS = st.sampled_from(["inverted", "one-bin", "outside", "missing", "random", "calm"])
ROWS = st.sampled_from([1, 99, 300, 500, 5_000, 10**6, 2**40])


@settings(max_examples=60, deadline=None)
@given(
    devices=st.integers(5, 40),
    lies=st.lists(st.tuples(KINDS, ROWS), max_size=20),
    drifts=st.booleans(),
    seed=st.integers(0, 2**16),
    likeness=st.sampled_from([150.0, 300.0, 3_000.0]),
)
def test_up_to_a_third_of_the_devices_cannot_turn_the_verdict(
    devices: int,
    lies: list[tuple[str, int]],
    drifts: bool,  # noqa: FBT001 - drawn by hypothesis
    seed: int,
    likeness: float,
) -> None:
    generator = np.random.default_rng(seed)
    good = honest(SIGNED, devices, generator, likeness=likeness, shift=4 if drifts else 0)
    lies = lies[: devices // 2]  # a third of all
    bad = [hostile(SIGNED, number, kind, rows, generator) for number, (kind, rows) in enumerate(lies)]
    verdict = merge_fleet(SIGNED, [*good, *bad]).verdict
    assert verdict is not None
    assert verdict.level == ("drift" if drifts else "ok")
    order = generator.permutation(len(good) + len(bad))
    shuffled = merge_fleet(SIGNED, [[*good, *bad][place] for place in order]).verdict
    assert shuffled is not None
    assert shuffled.signals == verdict.signals
    assert {out.device for out in shuffled.left_out} == {out.device for out in verdict.left_out}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2**40), min_size=4, max_size=4).filter(any), min_size=1, max_size=8),
    st.integers(1, 10_000),
)
def test_scaled_down_counts_are_whole_and_add_up(devices: list[list[int]], cap: int) -> None:
    counts = np.array(devices, dtype=float)[:, None, :]
    rows = counts.sum(axis=2)[:, 0]
    small = capped(counts, rows, cap)
    assert (small >= 0).all()
    assert (small == np.floor(small)).all()
    assert (small.sum(axis=2)[:, 0] == np.minimum(rows, cap)).all()
    assert (np.abs(small[:, 0] - counts[:, 0] * np.minimum(1, cap / rows)[:, None]) <= 1).all()
