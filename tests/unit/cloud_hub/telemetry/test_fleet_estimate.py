"""The fleet's accuracy without labels, where some devices' word for theirs is a lie."""

import math

import msgspec
import numpy as np
import pytest

from agent.drift.estimate import estimate_accuracy
from agent.protocol.drift import AccuracyEstimate, Calibration, SignalCounts
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, merge_fleet
from cloud_hub.telemetry.views import FleetEstimate
from tests.support.drift_fleets import honest, reference

BARE = reference()
SLOTS = len(BARE.signals[0].counts)
CALIBRATED = msgspec.structs.replace(
    BARE,
    calibration=Calibration(
        signal="x0",
        rows=(1_000,) * SLOTS,
        correct=tuple(900 + 4 * slot for slot in range(SLOTS)),
        expected_error=0.01,
    ),
)
LIES = [-1e6, 1e6, math.nan, math.inf, 0.0]


def claiming(part: DeviceCounts, accuracy: float) -> DeviceCounts:
    claim = AccuracyEstimate(
        accuracy=accuracy, low=accuracy - 0.02, high=accuracy + 0.02, level=0.95, rows=part.rows
    )
    return msgspec.structs.replace(part, estimate=claim)


def fleet(devices: int, liars: int, lie: float) -> list[DeviceCounts]:
    """Their counts are all alike, so that the verdict leaves none out."""
    parts = honest(BARE, devices, np.random.default_rng(5))
    return [claiming(part, lie if number < liars else 0.95) for number, part in enumerate(parts)]


def known(found: FleetEstimate | None) -> FleetEstimate:
    assert found is not None
    return found


@pytest.mark.parametrize("lie", LIES)
def test_without_a_calibration_a_third_of_the_devices_cannot_carry_the_figure_away(lie: float) -> None:
    for liars in (1, 33):
        merge = merge_fleet(BARE, fleet(100, liars, lie))
        assert merge.verdict is not None
        assert merge.verdict.left_out == ()
        estimate = known(merge.estimate)
        assert (estimate.accuracy, estimate.low, estimate.high) == pytest.approx((0.95, 0.93, 0.97))


@pytest.mark.parametrize("lie", LIES)
def test_where_counts_tell_what_a_device_says_of_its_accuracy_changes_nothing(lie: float) -> None:
    truth = known(merge_fleet(CALIBRATED, fleet(100, 0, 0.0)).estimate)
    lied = known(merge_fleet(CALIBRATED, fleet(100, 40, lie)).estimate)
    assert lied.accuracy == pytest.approx(truth.accuracy, abs=0.002)
    merge = merge_fleet(CALIBRATED, fleet(100, 0, 0.0))
    whole = estimate_accuracy(CALIBRATED, merge.robust).estimate
    assert whole is not None
    assert truth.accuracy == pytest.approx(whole.accuracy, abs=0.001)
    assert truth.low < truth.accuracy < truth.high


def test_where_counts_are_withheld_the_devices_word_is_what_there_is() -> None:
    def withheld(part: DeviceCounts) -> DeviceCounts:
        first = part.signals["x0"]
        at = max(range(SLOTS), key=first.counts.__getitem__)
        counts = tuple(0 if slot == at else count for slot, count in enumerate(first.counts))
        hidden = SignalCounts(counts=counts, missing=0, withheld=first.counts[at])
        return msgspec.structs.replace(part, signals=part.signals | {"x0": hidden})

    parts = [withheld(part) for part in fleet(9, 1, -1e6)]
    assert known(merge_fleet(CALIBRATED, parts).estimate).accuracy == pytest.approx(0.95)


def test_a_device_that_switched_its_estimate_off_is_given_none_by_the_hub() -> None:
    parts = [msgspec.structs.replace(part, estimate=None) for part in fleet(9, 0, 0.0)]
    assert merge_fleet(CALIBRATED, parts).estimate is None
