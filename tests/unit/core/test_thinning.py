"""What merges and what does not; counts are added exactly, and nothing looks better than it was."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.core.thinning import merge_health, merge_windows, window_key
from agent.protocol.drift import AccuracyEstimate, Alarm, DriftWindow, SignalCounts, VerdictLevel, Withheld
from agent.protocol.telemetry import Health
from tests.unit.store.bodies import HEALTH, window


def of(rows: int, closed: float = 2.0, level: VerdictLevel = "ok", merged: int = 1) -> DriftWindow:
    one = window(closed=closed, level=level)
    counts = SignalCounts(counts=(1, rows - 6, 1), missing=2, not_finite=2, repeated=3)
    return replace(
        one, rows=rows, merged=merged, signals={"brightness": counts}, verdict=replace(one.verdict, rows=rows)
    )


def test_counts_rows_and_windows_add_up_and_the_span_is_the_whole() -> None:
    merged = merge_windows([of(100, 2.0), of(50, 9.0), of(30, 5.0, merged=4)])
    assert (merged.rows, merged.merged, merged.opened, merged.closed) == (180, 6, 1.0, 9.0)
    assert merged.signals["brightness"] == SignalCounts(
        counts=(3, 162, 3), missing=6, not_finite=6, repeated=9
    )


windows = st.lists(
    st.builds(
        of,
        st.integers(6, 900),
        st.integers(0, 9).map(float),
        st.sampled_from(["ok", "insufficient data", "warning", "drift"]),
        st.integers(1, 30),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda one: (one.closed, one.rows),
)


@given(windows, st.data())
def test_in_any_order_and_in_any_steps_the_sum_is_the_same(
    some: list[DriftWindow], data: st.DataObject
) -> None:
    whole = merge_windows(some)
    shuffled = data.draw(st.permutations(some))
    cut = data.draw(st.integers(0, len(some)))
    steps = [merge_windows(part) for part in (shuffled[:cut], shuffled[cut:]) if part]
    again = merge_windows(steps)
    for name in ("rows", "merged", "opened", "closed", "signals", "incomplete"):
        assert getattr(again, name) == getattr(whole, name), name
    assert again.verdict.level == whole.verdict.level


def test_the_verdict_is_the_worst_with_its_own_rows_and_says_so() -> None:
    parts = [
        of(100, 2.0, "insufficient data"),
        of(90, 3.0, "drift"),
        of(900, 4.0, "ok"),
        of(80, 5.0, "drift"),
    ]
    for order in permutations(parts):
        verdict = merge_windows(order).verdict
        assert (verdict.level, verdict.rows) == ("drift", 90)
        assert verdict.reason == "brightness moved (The worst of 4 windows, merged on the device.)"
    twice = merge_windows([merge_windows(parts[:2]), merge_windows(parts[2:])])
    assert twice.verdict.reason == "brightness moved (The worst of 4 windows, merged on the device.)"
    assert merge_windows(parts[:1]).verdict == parts[0].verdict


def test_the_alarm_is_the_newest_with_every_change_that_was_seen() -> None:
    first = replace(of(9), alarm=Alarm(level="ok", since=1.0, windows=2, changed=("noise",)))
    last = replace(of(9, 5.0), alarm=Alarm(level="drift", since=4.0, windows=1, changed=("contrast",)))
    expected = Alarm(level="drift", since=4.0, windows=1, changed=("contrast", "noise"))
    assert merge_windows([last, first]).alarm == expected
    assert merge_windows([first, replace(last, alarm=None)]).alarm is None


def test_estimates_are_weighed_by_rows() -> None:
    def estimate(accuracy: float, low: float, high: float, rows: int) -> AccuracyEstimate:
        return AccuracyEstimate(accuracy=accuracy, low=low, high=high, level=0.95, rows=rows)

    first = replace(of(300), estimate=estimate(0.9, 0.8, 1.0, 300))
    second = replace(of(100), estimate=estimate(0.5, 0.4, 0.6, 100))
    merged = merge_windows([first, second])
    assert merged.estimate is not None
    assert merged.estimate.accuracy == pytest.approx(0.8)
    assert merged.estimate.low == pytest.approx(0.7)
    assert merged.estimate.high == pytest.approx(0.9)
    assert merged.estimate.rows == 400
    none = [replace(of(9), estimate=None, estimate_off="not calibrated") for _ in range(2)]
    assert (merge_windows(none).estimate, merge_windows(none).estimate_off) == (None, "not calibrated")


@pytest.mark.parametrize(
    "other",
    [
        {"model": "faces"},
        {"release": 3},
        {"deployment": "d2"},
        {"artifact": "cd" * 32},
        {"slice": "shift=day"},
        {"estimate": None},
        {"incomplete": True},
        {"withheld": Withheld(mechanism="suppressed", parameter=5.0)},
        {"signals": {"brightness": SignalCounts(counts=(1, 2))}},
        {"signals": {"contrast": SignalCounts(counts=(0, 500, 0))}},
    ],
)
def test_windows_that_did_not_count_the_same_thing_are_not_merged(other: dict[str, object]) -> None:
    assert window_key(replace(window(), **other)) != window_key(window())
    assert window_key(replace(window(), closed=9.0, rows=7)) == window_key(window())


def test_health_is_the_mean_of_work_and_the_worst_of_all_else() -> None:
    first = replace(HEALTH, cpu_percent=10.0, load=1.0, memory_available_mib=5.0, disk_free_mib=9.0)
    second = Health(
        time=7.0,
        cpu_percent=40.0,
        memory_available_mib=8.0,
        disk_free_mib=4.0,
        temperature_c=71.0,
        thermal="hot",
        load=0.25,
        supervisor_pss_mib=30.0,
        merged=2,
    )
    assert merge_health([second, first]) == Health(
        time=7.0,
        cpu_percent=30.0,
        memory_available_mib=5.0,
        disk_free_mib=4.0,
        temperature_c=71.0,
        thermal="hot",
        load=0.5,
        supervisor_pss_mib=30.0,
        merged=3,
    )
    assert merge_health([first]) == first
