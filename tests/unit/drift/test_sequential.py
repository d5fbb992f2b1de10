import numpy as np
import pytest
from scipy import stats

from agent.drift import sequential
from agent.drift.binning import Binner
from agent.drift.sequential import Distances
from agent.protocol.drift import DriftPolicy, DriftReference, SequentialPolicy, SignalCounts, SignalReference

RANDOM = np.random.default_rng(2)
SHARES = stats.norm.cdf(np.linspace(-2, 2, 10))
BINS = np.diff([0.0, *SHARES, 1.0])
POLICY = SequentialPolicy()


def reference(rows: int = 20_000, signals: int = 1) -> DriftReference:
    return DriftReference(
        schema=1,
        dataset_sha256="0" * 64,
        rows=rows,
        signals=tuple(
            SignalReference(
                name=f"s{number}",
                source="input",
                tensor="x",
                summary="mean",
                edges=tuple(range(10)),
                counts=tuple(RANDOM.multinomial(rows, BINS).tolist()),
                missing=0,
            )
            for number in range(signals)
        ),
        policy=DriftPolicy(),
    )


def window(rows: int, shift: float = 0.0) -> dict[str, SignalCounts]:
    shares = np.diff([0.0, *stats.norm.cdf(np.linspace(-2, 2, 10) - shift), 1.0])
    return {"s0": SignalCounts(counts=tuple(RANDOM.multinomial(rows, shares).tolist()))}


def follow(values: list[float], policy: SequentialPolicy = POLICY) -> list[int]:
    """Windows at which a change was seen."""
    state, seen = sequential.initial(1), []
    for number, value in enumerate(values):
        state, changed = sequential.step(state, np.array([value]), policy)
        if changed[0]:
            seen.append(number)
    return seen


@pytest.mark.parametrize("rows", [500, 5_000])
def test_the_distance_is_about_normal_while_nothing_changes(rows: int) -> None:
    # Each against a reference of its own: one reference's own chance would move all of them together.
    found = np.array([Distances(reference()).of(window(rows))[0] for _ in range(500)])
    assert abs(found.mean()) < 0.15
    assert found.std() == pytest.approx(1.0, abs=0.12)


def test_the_distance_grows_with_the_change_and_sees_what_has_no_value() -> None:
    distances = Distances(reference())
    still, some, much = (distances.of(window(500, shift))[0] for shift in (0.0, 0.3, 1.0))
    assert still < 3 < some < much
    usual = window(400)["s0"]
    for kind in ("missing", "not_finite"):
        assert distances.of({"s0": SignalCounts(counts=usual.counts, **{kind: 100})})[0] > 5


def test_counts_by_name_and_a_binners_vector_are_the_same_distance() -> None:
    signed = reference(signals=3)
    binner = Binner(signed.signals)
    vector = binner.count(RANDOM.normal(5, 3, (400, 3)))
    distances = Distances(signed)
    assert distances.of_slots(vector).tolist() == distances.of(binner.split(vector)).tolist()


def test_there_is_no_distance_where_there_is_nothing_to_compare() -> None:
    assert Distances(reference()).of({"s0": SignalCounts(counts=(0,) * 11)}).tolist() == [0.0]


def test_a_jump_is_seen_soon_and_once() -> None:
    values = [*RANDOM.normal(0, 1, 50), *RANDOM.normal(6, 1, 50)]
    seen = follow(values)
    assert len(seen) == 1
    assert 50 <= seen[0] <= 53


def test_a_fall_is_seen_as_a_rise_is() -> None:
    values = list(RANDOM.normal(0, 1, 60) + np.repeat([8.0, 2.0], 30))
    assert follow(values) == follow([-value for value in values])
    assert 30 <= follow(values)[0] <= 33


def test_a_constant_distance_is_no_change() -> None:
    assert follow(list(RANDOM.normal(4, 1, 500))) == []


def test_nothing_is_reported_before_enough_windows() -> None:
    policy = SequentialPolicy(minimum_windows=8)
    values = [0.0, 0.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    assert follow(values, policy) == [7]
    assert follow(values, SequentialPolicy(minimum_windows=3)) == [2]


def test_a_window_without_a_value_leaves_its_signal_as_it_was() -> None:
    state, _ = sequential.step(sequential.initial(2), np.array([1.0, 2.0]), POLICY)
    after, changed = sequential.step(state, np.array([np.nan, 5.0]), POLICY)
    assert after[:, 0].tolist() == state[:, 0].tolist()
    assert after[:, 1].tolist() != state[:, 1].tolist()
    assert not changed.any()


def test_false_changes_over_a_thousand_windows_of_64_signals_are_rare() -> None:
    state, changes = sequential.initial(64), 0
    for values in RANDOM.normal(0, 1, (1_000, 64)):
        state, changed = sequential.step(state, values, POLICY)
        changes += int(changed.sum())
    assert changes == 0


@pytest.mark.soak
@pytest.mark.parametrize("bins", [2, 10, 20])
@pytest.mark.parametrize(("reference_rows", "rows"), [(600, 500), (20_000, 500), (2_000, 4_000)])
def test_false_changes_are_rare_for_any_number_of_bins_and_rows(
    bins: int, reference_rows: int, rows: int
) -> None:
    random = np.random.default_rng(bins + rows + reference_rows)
    shares = random.dirichlet(np.ones(bins) * 3, 64)
    signals = [
        SignalReference(
            name=f"s{number}",
            source="input",
            tensor="x",
            summary="mean",
            edges=tuple(range(bins - 1)) if bins > 2 else (0.0, 1.0),
            counts=(*random.multinomial(reference_rows, own).tolist(), *((0,) if bins == 2 else ())),
            missing=0,
        )
        for number, own in enumerate(shares)
    ]
    whole = DriftReference(
        schema=1, dataset_sha256="0" * 64, rows=reference_rows, signals=tuple(signals), policy=DriftPolicy()
    )
    distances = Distances(whole)
    states = {threshold: sequential.initial(64) for threshold in (1.0, POLICY.threshold)}
    changes = dict.fromkeys(states, 0)
    for _ in range(1_000):
        window = {
            signal.name: SignalCounts(
                counts=(*random.multinomial(rows, own).tolist(), *((0,) if bins == 2 else ()))
            )
            for signal, own in zip(signals, shares, strict=True)
        }
        values = distances.of(window)
        for threshold, state in states.items():
            policy = SequentialPolicy(threshold=threshold)
            states[threshold], changed = sequential.step(state, values, policy)
            changes[threshold] += int(changed.sum())
    assert changes[POLICY.threshold] == 0
    assert changes[1.0] > 0  # so it does look at them


def by_hand(values: list[float], policy: SequentialPolicy) -> list[int]:
    """Page-Hinkley as it stands in the literature: sums, and their extremes so far."""
    seen: list[int] = []
    past: list[float] = []
    rise = fall = low = high = 0.0
    for number, value in enumerate(values):
        past.append(value)
        deviation = value - sum(past) / len(past)
        rise += deviation - policy.tolerance
        fall += deviation + policy.tolerance
        low, high = (rise, fall) if len(past) == 1 else (min(low, rise), max(high, fall))
        if len(past) >= policy.minimum_windows and max(rise - low, high - fall) > policy.threshold:
            seen.append(number)
            past, rise, fall = [], 0.0, 0.0
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_it_is_page_hinkley(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(0, 1, 300) + np.repeat(random.normal(0, 5, 10), 30)).tolist()
    policy = SequentialPolicy(tolerance=0.3, threshold=5.0, minimum_windows=3)
    assert follow(values, policy) == by_hand(values, policy)
    assert follow(values, policy)
