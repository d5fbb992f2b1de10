"""One suite over every statistic: a new one is held to the same rules by being in the registry."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agent.drift import statistics
from agent.drift.binning import Binner
from agent.drift.statistics import Floats
from agent.protocol.drift import SignalReference
from tests.contract.drift.registry import DISTANCES, PARTS, TESTS, Claim, Distance, Test

RANDOM = np.random.default_rng(11)
EDGES = np.linspace(-2, 2, 9)
NEAR = np.array([[90.0, 110.0, 100.0], [30.0, 30.0, 40.0]])
FAR = np.array([[10.0, 20.0, 270.0], [8.0, 1.0, 91.0]])
KNOWN = np.array([[100.0, 100.0, 100.0], [100.0, 100.0, 100.0]])
ANY = [np.zeros((1, 3)), np.array([[0.0, 0.0, 2.0**53]]), np.array([[1.0, 0.0, 0.0]]), KNOWN[:1]]
COUNTS = st.lists(st.integers(0, 10_000), min_size=5, max_size=5)

each_distance = pytest.mark.parametrize("distance", DISTANCES, ids=lambda one: one.name)
each_test = pytest.mark.parametrize("test", TESTS, ids=lambda one: one.name)


def claiming(claim: Claim) -> pytest.MarkDecorator:
    found = [one for one in DISTANCES if claim in one.claims]
    return pytest.mark.parametrize("distance", found, ids=lambda one: one.name)


def normal(shift: float, rows: float) -> Floats:
    """Expected counts of a normal distribution, shifted, in the bins of ``EDGES``; shape (1, bins)."""
    shares: Floats = np.diff([0.0, *stats.norm.cdf(EDGES - shift), 1.0])[None]
    return np.round(shares * rows)


def row(counts: list[int]) -> Floats:
    return np.array([counts], dtype=np.float64)


def test_every_public_statistic_is_in_the_registry() -> None:
    public = {
        one
        for name, one in inspect.getmembers(statistics, inspect.isfunction)
        if not name.startswith("_") and one.__module__ == statistics.__name__
    }
    registered = {one.source for one in (*DISTANCES, *TESTS)}
    assert public - PARTS <= registered
    assert public >= PARTS


@claiming("zero")
def test_the_same_shares_are_at_distance_zero(distance: Distance) -> None:
    assert distance.of(KNOWN, KNOWN) == pytest.approx(0)
    assert distance.of(normal(0, 1e4), normal(0, 1e4)) == pytest.approx(0)


@claiming("symmetric")
@settings(deadline=None, max_examples=50)
@given(first=COUNTS, second=COUNTS)
def test_both_sides_may_be_exchanged(distance: Distance, first: list[int], second: list[int]) -> None:
    assert distance.of(row(first), row(second)) == pytest.approx(distance.of(row(second), row(first)))


@claiming("unordered")
@settings(deadline=None, max_examples=50)
@given(first=COUNTS, second=COUNTS, order=st.permutations(range(5)))
def test_bins_without_an_order_may_be_permuted(
    distance: Distance, first: list[int], second: list[int], order: list[int]
) -> None:
    permuted = distance.of(row(first)[:, order], row(second)[:, order])
    assert permuted == pytest.approx(distance.of(row(first), row(second)))


@claiming("triangle")
@settings(deadline=None, max_examples=50)
@given(first=COUNTS, second=COUNTS, third=COUNTS)
def test_a_detour_is_never_shorter(
    distance: Distance, first: list[int], second: list[int], third: list[int]
) -> None:
    a, b, c = (row([one + (place == 0) for place, one in enumerate(side)]) for side in (first, second, third))
    assert distance.of(a, c)[0] <= distance.of(a, b)[0] + distance.of(b, c)[0] + 1e-9


@claiming("scale-free")
def test_shares_alone_matter(distance: Distance) -> None:
    assert distance.of(FAR * 7, KNOWN * 3) == pytest.approx(distance.of(FAR, KNOWN))


@each_distance
class TestEveryDistance:
    def test_grows_with_the_change(self, distance: Distance) -> None:
        assert (distance.of(FAR, KNOWN) > distance.of(NEAR, KNOWN)).all()

    def test_grows_with_the_size_of_a_shift_in_either_direction(self, distance: Distance) -> None:
        for sign in (1, -1):
            shifts = [
                distance.of(normal(sign * size, 1e5), normal(0, 1e5))[0] for size in np.arange(0, 3, 0.1)
            ]
            assert (np.diff(shifts) > 0).all()

    def test_is_about_as_large_in_either_direction(self, distance: Distance) -> None:
        up, down = (distance.of(normal(size, 1e5), normal(0, 1e5))[0] for size in (0.7, -0.7))
        assert up == pytest.approx(down, rel=1e-3)

    def test_judges_each_signal_alone(self, distance: Distance) -> None:
        apart = [distance.of(FAR[i : i + 1], KNOWN[i : i + 1])[0] for i in range(2)]
        assert distance.of(FAR, KNOWN).tolist() == apart

    def test_is_finite_and_within_its_bounds_for_any_counts(self, distance: Distance) -> None:
        for counts in ANY:
            for reference in ANY:
                found = distance.of(counts, reference)
                assert np.isfinite(found).all()
                if "zero" in distance.claims:
                    assert (found >= 0).all()
                assert (found <= distance.most).all()

    def test_reaches_its_upper_bound_where_nothing_is_shared(self, distance: Distance) -> None:
        if np.isfinite(distance.most):
            assert distance.of(row([300, 0, 0]), row([0, 0, 500])) == pytest.approx(distance.most)

    def test_says_nothing_where_a_side_is_empty(self, distance: Distance) -> None:
        assert distance.of(KNOWN * 0, KNOWN).tolist() == [0, 0]
        assert distance.of(KNOWN, KNOWN * 0).tolist() == [0, 0]

    def test_windows_that_are_merged_say_what_their_union_says_in_any_order(self, distance: Distance) -> None:
        values = RANDOM.normal(0.4, 1, (900, 1))
        signal = SignalReference(
            name="s",
            source="input",
            tensor="x",
            summary="mean",
            edges=tuple(EDGES.tolist()),
            counts=(0,) * (len(EDGES) + 1),
            missing=0,
        )

        def counted(rows: Floats) -> Floats:
            return row(list(Binner([signal]).split(Binner([signal]).count(rows))["s"].counts))

        known = normal(0, 1e4)
        whole = distance.of(counted(values), known)
        parts = [values[:10], values[10:400], values[400:]]
        assert distance.of(sum((counted(part) for part in parts), np.zeros_like(known)), known) == whole
        assert distance.of(counted(RANDOM.permutation(values)), known) == whole


@pytest.mark.parametrize(
    "distance", [one for one in DISTANCES if one.name != "wasserstein"], ids=lambda one: one.name
)
def test_padding_changes_nothing(distance: Distance) -> None:
    padded, known = (np.pad(side, ((0, 0), (0, 3))) for side in (FAR, KNOWN))
    assert distance.of(padded, known) == pytest.approx(distance.of(FAR, KNOWN))


def test_padding_changes_nothing_for_wasserstein_whose_positions_know_it() -> None:
    short, long = (0.0, 1.0, 3.0), tuple(range(9))
    alone = statistics.wasserstein(
        statistics.sides(row([1, 2, 3, 4]), row([4, 3, 2, 1])), statistics.bin_positions([short])
    )
    counts, reference = (np.zeros((2, 10)) for _ in range(2))
    counts[0, :4], reference[0, :4] = [1, 2, 3, 4], [4, 3, 2, 1]
    counts[1], reference[1] = 1, 1
    beside = statistics.wasserstein(
        statistics.sides(counts, reference), statistics.bin_positions([short, long])
    )
    assert beside.tolist() == pytest.approx([alone[0], 0.0])


@each_test
class TestEveryTest:
    def test_says_nothing_for_the_same_shares(self, test: Test) -> None:
        assert (test.of(KNOWN, KNOWN) >= 0.5).all()

    def test_falls_with_the_change_and_with_the_rows(self, test: Test) -> None:
        assert (test.of(FAR, KNOWN) < test.of(NEAR * [1, 1, 1], KNOWN)).all()
        assert (test.of(FAR[1:], KNOWN[1:]) > test.of(FAR[1:] * 2, KNOWN[1:] * 2)).all()

    def test_stays_between_zero_and_one_for_any_counts(self, test: Test) -> None:
        for counts in ANY:
            for reference in ANY:
                assert 0 <= test.of(counts, reference)[0] <= 1

    def test_says_one_where_a_side_is_empty(self, test: Test) -> None:
        assert test.of(KNOWN * 0, KNOWN).tolist() == [1, 1]
        assert test.of(KNOWN, KNOWN * 0).tolist() == [1, 1]

    @pytest.mark.parametrize(("rows", "reference_rows"), [(400, 2_000), (3_000, 3_000), (500, 100_000)])
    def test_its_p_values_are_uniform_while_nothing_changes(
        self, test: Test, rows: int, reference_rows: int
    ) -> None:
        random = np.random.default_rng(rows)
        shares = np.array([0.15, 0.2, 0.1, 0.15, 0.2, 0.2])
        counts = random.multinomial(rows, shares, 4_000).astype(np.float64)
        reference = random.multinomial(reference_rows, shares, 4_000).astype(np.float64)
        p_values = test.of(counts, reference)
        for level in (0.01, 0.05, 0.2, 0.5):
            chance = np.sqrt(level * (1 - level) / len(p_values))
            share = float((p_values < level).mean())
            assert share < level + 4 * chance + 0.002
            if test.exact:
                assert share > level - 4 * chance - 0.005


def test_the_correction_keeps_the_rate_of_false_discoveries() -> None:
    alpha, false, found = 0.1, 0.0, 0.0
    for _ in range(400):
        truth = RANDOM.random(64) < 0.25
        p_values = np.where(truth, RANDOM.beta(0.1, 20, 64), RANDOM.random(64))
        rejected = statistics.benjamini_hochberg(p_values) < alpha
        false += (rejected & ~truth).sum() / max(rejected.sum(), 1) / 400
        found += (rejected & truth).sum() / max(truth.sum(), 1) / 400
    assert false < alpha
    assert found > 0.5
