"""When a policy is broken, for how long, and what follows; pure."""

import pytest

from agent.protocol.drift import Alarm, MovedSignal, Verdict, VerdictLevel
from cloud_hub.retraining.policy import (
    HOUR,
    RetrainingPolicy,
    Situation,
    Step,
    Watch,
    accuracy_situation,
    decide,
    drift_situation,
    watch,
)
from cloud_hub.telemetry.views import DeviceDrift, FleetEstimate, ReleaseDrift

BROKEN = Situation(broken=True, calm=False, text="")
CALM = Situation(broken=False, calm=True, text="")
BETWEEN = Situation(broken=False, calm=False, text="")


def device(
    name: str, level: VerdictLevel, *, signal: str = "x", alarm: VerdictLevel | None = None
) -> DeviceDrift:
    verdict = Verdict(
        level=level,
        rows=500,
        correction="benjamini-hochberg",
        alpha=0.01,
        judged=1,
        moved_most=(
            MovedSignal(signal=signal, level=level, rows=500, statistic="psi", value=0.5, p_value=0.0),
        ),
        reason="",
    )
    return DeviceDrift(
        device=name,
        slice="",
        opened=0,
        closed=1,
        received=1,
        rows=500,
        level=level,
        claimed=level,
        verdict=verdict,
        alarm=Alarm(level=alarm, since=0, windows=1) if alarm else None,
        estimate=None,
        estimate_off=None,
    )


def fleet(*devices: DeviceDrift, estimate: FleetEstimate | None = None) -> ReleaseDrift:
    return ReleaseDrift(
        model="digits",
        release=1,
        slice="",
        level="ok",
        rows=1,
        fleet=None,
        problem=None,
        devices=devices,
        levels={},
        alarms=0,
        signals={},
        raw_signals={},
        estimate=estimate,
    )


def drifting(count: int, of: int, **kind: str) -> ReleaseDrift:
    return fleet(*(device(f"d{i}", "drift" if i < count else "ok", **kind) for i in range(of)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "of", "broken", "calm"),
    [
        (1, 20, False, True),
        (2, 20, False, False),
        (3, 20, False, False),
        (4, 20, True, False),
        (2, 2, True, False),
        (0, 0, False, False),
    ],
)
def test_share_and_number_decide(count: int, of: int, broken: bool, calm: bool) -> None:  # noqa: FBT001
    found = drift_situation(RetrainingPolicy(share=0.2, devices=3), drifting(count, of))
    assert (found.broken, found.calm, len(found.affected)) == (broken, calm, count)


def test_a_device_without_a_verdict_counts_on_neither_side() -> None:
    devices = [device("a", "drift"), *(device(f"i{n}", "insufficient data") for n in range(9))]
    found = drift_situation(RetrainingPolicy(share=0.5, devices=1), fleet(*devices))
    assert found.broken
    assert "1 of 1 devices" in found.text


def test_only_the_signals_that_were_asked_for_count() -> None:
    policy = RetrainingPolicy(signals=("brightness",), devices=1)
    assert not drift_situation(policy, drifting(5, 5)).broken
    assert drift_situation(policy, drifting(5, 5, signal="brightness")).broken


def test_where_a_device_raises_alarms_they_decide_and_not_one_window() -> None:
    policy = RetrainingPolicy(devices=1)
    assert drift_situation(policy, fleet(device("a", "drift", alarm="ok"))).affected == ()
    assert drift_situation(policy, fleet(device("a", "ok", alarm="drift"))).affected == ("a",)


def test_the_whole_interval_of_the_estimate_must_lie_under_the_limit() -> None:
    policy = RetrainingPolicy(accuracy_loss=0.05)
    bad = FleetEstimate(accuracy=0.80, low=0.78, high=0.84, level=0.95, devices=9)
    unsure = FleetEstimate(accuracy=0.80, low=0.70, high=0.95, level=0.95, devices=2)
    assert accuracy_situation(policy, fleet(estimate=bad), 0.9).broken
    assert not accuracy_situation(policy, fleet(estimate=unsure), 0.9).broken
    assert not accuracy_situation(policy, fleet(), 0.9).broken
    assert not accuracy_situation(RetrainingPolicy(accuracy_loss=None), fleet(estimate=bad), 0.9).broken


def run(
    policy: RetrainingPolicy, *spans: tuple[float, Situation], is_open: bool = False
) -> list[tuple[float, Step]]:
    """Steps at each quarter of an hour of the spans (hours, situation)."""
    state, now = Watch(), 0.0
    found: list[tuple[float, Step]] = []
    for hours, situation in spans:
        end = now + hours * HOUR
        while now < end:
            state = watch(state, situation, now)
            step = decide(policy, state, now, is_open=is_open)
            if step in ("open", "close"):
                is_open = step == "open"
                found.append((now / HOUR, step))
            now += HOUR / 4
    return found


def test_it_opens_after_so_long_without_a_break_and_closes_after_so_long_of_calm() -> None:
    policy = RetrainingPolicy(hours=24, calm_hours=12)
    assert run(policy, (30, BROKEN), (30, CALM)) == [(24.0, "open"), (42.0, "close")]
    assert run(policy, (23, BROKEN), (1, BETWEEN), (23, BROKEN)) == []
    assert run(policy, (30, BROKEN), (100, BETWEEN), (11, CALM), (1, BROKEN), (11, CALM)) == [(24.0, "open")]
    assert run(RetrainingPolicy(enabled=False), (100, BROKEN)) == []
