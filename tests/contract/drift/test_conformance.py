"""One suite over every statistic: a new one is held to the same rules by being listed."""

from collections.abc import Callable

import numpy as np
import pytest

from agent.drift import statistics
from agent.drift.views import Floats

RANDOM = np.random.default_rng(11)

Distance = Callable[[Floats, Floats], Floats]
PValue = Callable[[Floats, Floats], Floats]


def ks_p(counts: Floats, reference: Floats) -> Floats:
    distance = statistics.kolmogorov_smirnov(counts, reference)
    return statistics.ks_p_values(distance, counts.sum(axis=1), reference.sum(axis=1))


DISTANCES: list[Distance] = [statistics.population_stability, statistics.kolmogorov_smirnov]
P_VALUES: list[PValue] = [ks_p, statistics.chi_squared_p_values]

NEAR = np.array([[90.0, 110.0, 100.0], [30.0, 30.0, 40.0]])
FAR = np.array([[10.0, 20.0, 270.0], [98.0, 1.0, 1.0]])
KNOWN = np.array([[100.0, 100.0, 100.0], [100.0, 100.0, 100.0]])


@pytest.mark.parametrize("distance", DISTANCES)
class TestEveryDistance:
    def test_is_zero_for_the_same_shares(self, distance: Distance) -> None:
        assert distance(KNOWN, KNOWN) == pytest.approx(0)

    def test_is_symmetric(self, distance: Distance) -> None:
        assert distance(FAR, KNOWN) == pytest.approx(distance(KNOWN, FAR))

    def test_grows_with_the_change(self, distance: Distance) -> None:
        assert (distance(FAR, KNOWN) > distance(NEAR, KNOWN)).all()

    def test_judges_each_signal_alone(self, distance: Distance) -> None:
        apart = [distance(FAR[i : i + 1], KNOWN[i : i + 1])[0] for i in range(2)]
        assert distance(FAR, KNOWN).tolist() == apart

    def test_is_unmoved_by_padding(self, distance: Distance) -> None:
        padded, known = (np.pad(side, ((0, 0), (0, 3))) for side in (FAR, KNOWN))
        assert distance(padded, known) == pytest.approx(distance(FAR, KNOWN))

    def test_is_finite_for_any_counts(self, distance: Distance) -> None:
        for counts in (np.zeros((1, 3)), np.array([[0.0, 0.0, 2.0**53]]), np.array([[1.0, 0.0, 0.0]])):
            for reference in (np.zeros((1, 3)), np.array([[2.0**53, 0.0, 0.0]]), KNOWN[:1]):
                assert np.isfinite(distance(counts, reference)).all()


@pytest.mark.parametrize("p_value", P_VALUES)
class TestEveryTest:
    def test_says_one_for_the_same_shares(self, p_value: PValue) -> None:
        assert p_value(KNOWN, KNOWN) == pytest.approx(1)

    def test_falls_with_the_change_and_with_the_rows(self, p_value: PValue) -> None:
        assert (p_value(FAR, KNOWN) < p_value(NEAR, KNOWN)).all()
        assert (p_value(NEAR * 10, KNOWN * 10) < p_value(NEAR, KNOWN)).all()

    def test_keeps_its_level_when_nothing_changed(self, p_value: PValue) -> None:
        # Under the null at most alpha of the windows are called different (binned KS is conservative).
        shares = np.array([0.3, 0.2, 0.2, 0.2, 0.1])
        counts = RANDOM.multinomial(400, shares, 4000).astype(np.float64)
        reference = RANDOM.multinomial(2000, shares, 4000).astype(np.float64)
        assert (p_value(counts, reference) < 0.05).mean() <= 0.06

    def test_stays_between_zero_and_one_for_any_counts(self, p_value: PValue) -> None:
        for counts in (np.zeros((1, 3)), np.array([[0.0, 0.0, 2.0**53]]), np.array([[1.0, 0.0, 0.0]])):
            for reference in (np.zeros((1, 3)), np.array([[2.0**53, 0.0, 0.0]]), KNOWN[:1]):
                assert 0 <= p_value(counts, reference)[0] <= 1
