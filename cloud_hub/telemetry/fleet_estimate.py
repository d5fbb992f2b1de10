"""A fleet's accuracy without labels: from devices' counts, by the hub's own reckoning; from their word only where it must. Pure."""

from collections.abc import Iterable, Mapping

import numpy as np

from agent.drift.estimate import Estimator
from agent.protocol.drift import AccuracyEstimate, DriftReference, SignalCounts
from cloud_hub.telemetry.robust import Floats, cap_rows
from cloud_hub.telemetry.views import FleetEstimate

Told = tuple[Mapping[str, SignalCounts], AccuracyEstimate]
"""What one device counted, and what it says its accuracy is."""


def fleet_estimate(reference: DriftReference, told: Iterable[Told]) -> FleetEstimate | None:
    """Over devices that have an estimate (a device switches its own off where labels contradict it).

    Where their counts are as they were counted, each one's estimate is made anew from them; the fleet's is the mean of
    these and of their intervals' ends, weighted by rows up to the median device's. All of them are of the release's one calibration:
    what is not known about it does not average out over devices. Where counts were changed for privacy, or the
    reference has no calibration, there is only the devices' word: then it is the weighted median, which fewer than half
    of them, whatever they say, can't carry away.
    """
    claims = [(counts, claim) for counts, claim in told if _sound(claim)]
    own = _reckoned(reference, claims)
    used = own or [claim for _, claim in claims]
    if not used:
        return None
    rows = np.array([float(each.rows) for each in used])
    weights = np.minimum(rows, cap_rows(rows))
    figure = _mean if own else _median
    return FleetEstimate(
        accuracy=figure(np.array([each.accuracy for each in used]), weights),
        low=figure(np.array([each.low for each in used]), weights),
        high=figure(np.array([each.high for each in used]), weights),
        level=min(each.level for each in used),
        devices=len(used),
    )


def _sound(claim: AccuracyEstimate) -> bool:
    """Rounding aside, an estimate lies in its interval; not a number lies nowhere."""
    return (
        claim.rows > 0 and 0.0 <= claim.low <= claim.accuracy <= claim.high <= 1.0 and 0.0 < claim.level < 1.0
    )


def _reckoned(reference: DriftReference, claims: Iterable[Told]) -> list[AccuracyEstimate]:
    calibration = reference.calibration
    if calibration is None or calibration.problem is not None:
        return []
    estimator = Estimator(reference)
    exact = (counts for counts, _ in claims if not counts[calibration.signal].withheld)
    made = (estimator.estimate(counts).estimate for counts in exact)
    return [each for each in made if each is not None]


def _mean(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights))


def _median(values: Floats, weights: Floats) -> float:
    """The least value that at least half of the weight does not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(reached, reached[-1] / 2))])
