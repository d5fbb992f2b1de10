"""The robust fleet verdict beside the raw one: hostile and broken devices, few devices, split fleets."""

import msgspec
import numpy as np
import pytest

from agent.protocol.drift import AccuracyEstimate, SignalCounts
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, FleetMerge, merge_fleet
from cloud_hub.telemetry.robust import capped
from tests.support.drift_fleets import honest, hostile, reference

SIGNED = reference()


def merged(parts: list[DeviceCounts]) -> FleetMerge:
    return merge_fleet(SIGNED, parts)


def fleet(devices: int, shift: int = 0) -> list[DeviceCounts]:
    return honest(SIGNED, devices, np.random.default_rng(5), shift=shift)


def test_one_device_with_a_thousand_million_rows_turns_the_raw_verdict_alone() -> None:
    liar = hostile(SIGNED, 0, "inverted", 10**9, np.random.default_rng(1))
    verdict = merged([*fleet(20), liar]).verdict
    assert verdict is not None
    assert (verdict.level, verdict.raw.level) == ("ok", "drift")
    assert [(out.device, out.rows) for out in verdict.left_out] == [(liar.device, 10**9)]
    assert verdict.left_out[0].distance > verdict.left_out[0].usual
    assert "hostile-000" in verdict.text
    assert "With everything added up it would be drift" in verdict.text


def test_a_device_that_calls_everything_well_does_not_hide_a_fleet_that_drifts() -> None:
    liar = hostile(SIGNED, 0, "calm", 10**9, np.random.default_rng(1))
    verdict = merged([*fleet(20, shift=4), liar]).verdict
    assert verdict is not None
    assert (verdict.level, verdict.raw.level) == ("drift", "ok")


def test_huge_rows_of_the_right_shape_weigh_no_more_than_the_median_devices() -> None:
    parts = [msgspec.structs.replace(part) for part in fleet(9)]
    big = honest(SIGNED, 1, np.random.default_rng(9), rows=1_000_000, prefix="busy")
    found = merged([*parts, *big])
    assert found.verdict is not None
    assert (found.verdict.cap, found.verdict.capped) == (500, 1)
    assert found.verdict.robust.rows == 5_000
    assert found.verdict.raw.rows == 1_004_500
    assert all(sum(counts.counts) == 5_000 for counts in found.robust.values())


@pytest.mark.parametrize("kind", ["inverted", "one-bin", "outside", "missing"])
@pytest.mark.parametrize("together", [1, 5, 10])
def test_a_third_of_the_fleet_may_lie_alike(kind: str, together: int) -> None:
    liars = [hostile(SIGNED, number, kind, 500, np.random.default_rng(2)) for number in range(together)]
    for shift, level in ((0, "ok"), (4, "drift")):
        verdict = merged([*fleet(20, shift), *liars]).verdict
        assert verdict is not None
        assert verdict.level == level
        if shift == 0:
            assert {out.device for out in verdict.left_out} == {liar.device for liar in liars}
            assert not verdict.split


def test_over_a_third_is_called_a_split_fleet() -> None:
    others = honest(SIGNED, 9, np.random.default_rng(7), shift=4, prefix="other")
    verdict = merged([*fleet(15), *others]).verdict
    assert verdict is not None
    assert verdict.split
    assert "not of one kind" in verdict.text


def test_of_four_devices_none_is_left_out() -> None:
    parts = [*fleet(3), hostile(SIGNED, 0, "inverted", 500, np.random.default_rng(1))]
    verdict = merged(parts).verdict
    assert verdict is not None
    assert verdict.left_out == ()
    assert "Under 5 devices" in verdict.text


def test_counts_of_another_layout_are_left_out_with_the_reason() -> None:
    broken = DeviceCounts(device="broken", rows=500, signals={"x0": SignalCounts(counts=(500,))})
    empty = DeviceCounts(device="empty", rows=0, signals={})
    lying = msgspec.structs.replace(fleet(1)[0], device="lying", rows=501)
    found = merged([*fleet(6), broken, empty, lying])
    assert set(found.unusable) == {"broken", "empty", "lying"}
    assert found.verdict is not None
    assert (found.verdict.devices, found.verdict.rows) == (6, 3_000)
    assert {out.device for out in found.verdict.left_out} == {"broken", "empty", "lying"}
    assert merged([broken]).verdict is None


def test_the_estimate_leaves_out_whom_the_verdict_leaves_out_and_caps_the_rest() -> None:
    def with_estimate(part: DeviceCounts, accuracy: float) -> DeviceCounts:
        estimate = AccuracyEstimate(
            accuracy=accuracy, low=accuracy - 0.02, high=accuracy + 0.02, level=0.95, rows=part.rows
        )
        return msgspec.structs.replace(part, estimate=estimate)

    liar = with_estimate(hostile(SIGNED, 0, "inverted", 10**9, np.random.default_rng(1)), 0.0)
    estimate = merged([*(with_estimate(part, 0.9) for part in fleet(16)), liar]).estimate
    assert estimate is not None
    assert (estimate.devices, round(estimate.accuracy, 6)) == (16, 0.9)
    assert estimate.high - estimate.low == pytest.approx(
        0.04
    )  # one calibration: its error does not average out


def test_scaling_down_keeps_whole_rows() -> None:
    counts = np.array([[[7.0, 2.0, 1.0, 0.0], [10.0, 0.0, 0.0, 0.0]]])
    small = capped(counts, np.array([10.0]), 3)
    assert small.tolist() == [[[2.0, 1.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]]]


def test_what_a_device_withholds_does_not_set_it_apart() -> None:
    parts = fleet(9)
    shy = parts[0]
    signals = {
        name: SignalCounts(
            counts=tuple(count // 2 for count in counts.counts),
            withheld=500 - sum(count // 2 for count in counts.counts),
        )
        for name, counts in shy.signals.items()
    }
    silent = {
        name: SignalCounts(counts=(0,) * len(counts.counts), withheld=500)
        for name, counts in shy.signals.items()
    }
    others = [
        msgspec.structs.replace(shy, signals=signals),
        msgspec.structs.replace(shy, device="silent", signals=silent),
    ]
    verdict = merged([*others, *parts[1:]]).verdict
    assert verdict is not None
    assert verdict.left_out == ()
    assert verdict.level == "ok"
