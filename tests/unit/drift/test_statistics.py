import math

import numpy as np
import pytest
from scipy import stats

from agent.drift import statistics


def row(*counts: float) -> statistics.Floats:
    return np.array([counts], dtype=np.float64)


def test_psi_by_hand() -> None:
    # (60.5, 40.5) of 101 against (50.5, 50.5) of 101
    p, q = 60.5 / 101, 50.5 / 101
    by_hand = (p - q) * math.log(p / q) + ((1 - p) - (1 - q)) * math.log((1 - p) / (1 - q))
    assert statistics.population_stability(statistics.sides(row(60, 40), row(50, 50)))[0] == pytest.approx(
        by_hand, rel=1e-12
    )


def test_psi_of_an_empty_bin_is_finite_and_grows_with_what_is_missing() -> None:
    some = statistics.population_stability(statistics.sides(row(0, 300), row(10, 290)))[0]
    more = statistics.population_stability(statistics.sides(row(0, 300), row(100, 200)))[0]
    assert 0 < some < 0.15
    assert 0.25 < more < math.inf


def test_bins_that_are_empty_on_both_sides_change_nothing() -> None:
    counts, reference = row(30, 70), row(50, 50)
    padded, padded_reference = row(0, 30, 0, 70, 0), row(0, 50, 0, 50, 0)
    assert statistics.population_stability(statistics.sides(padded, padded_reference)) == pytest.approx(
        statistics.population_stability(statistics.sides(counts, reference))
    )


@pytest.mark.parametrize(("counts", "reference"), [(row(0, 0), row(5, 5)), (row(5, 5), row(0, 0))])
def test_an_empty_side_says_nothing(counts: statistics.Floats, reference: statistics.Floats) -> None:
    assert statistics.population_stability(statistics.sides(counts, reference))[0] == 0
    assert statistics.kolmogorov_smirnov(statistics.sides(counts, reference))[0] == 0
    assert statistics.ks_p_values(np.array([1.0]), counts.sum(axis=1), reference.sum(axis=1))[0] == 1
    assert statistics.chi_squared_p_values(counts, reference)[0] == 1


@pytest.mark.parametrize("sizes", [(300, 300), (300, 2000), (5000, 800)])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_ks_agrees_with_scipy_on_values_that_are_bins(sizes: tuple[int, int], shift: float) -> None:
    random = np.random.default_rng(3)
    first = np.round(random.normal(shift, 1, sizes[0]), 1)
    second = np.round(random.normal(0, 1, sizes[1]), 1)
    places = np.unique(np.concatenate([first, second]))
    counts, reference = (
        np.array([[np.sum(side == place) for place in places]], dtype=np.float64) for side in (first, second)
    )
    expected = stats.ks_2samp(first, second, method="asymp")
    distance = statistics.kolmogorov_smirnov(statistics.sides(counts, reference))
    p_value = statistics.ks_p_values(distance, np.array([sizes[0]]), np.array([sizes[1]]))
    assert distance[0] == pytest.approx(expected.statistic, abs=1e-12)
    assert p_value[0] == pytest.approx(expected.pvalue, rel=0.05, abs=1e-6)


def test_kolmogorov_survival_agrees_with_scipy_on_both_series() -> None:
    x = np.array([0.0, 0.05, 0.2, 0.5, 0.9, 1.179, 1.18, 1.181, 1.5, 2.5, 6.0])
    assert statistics.kolmogorov_survival(x) == pytest.approx(stats.kstwobign.sf(x), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 10, 31])
def test_chi_squared_survival_agrees_with_scipy(degrees: int) -> None:
    for statistic in (0.0, 0.1, 1.0, 5.0, 30.0, 200.0, 5000.0):
        expected = stats.chi2.sf(statistic, degrees)
        assert statistics.chi_squared_survival(statistic, degrees) == pytest.approx(expected, rel=1e-9)


def test_chi_squared_agrees_with_scipy_where_nothing_is_rare() -> None:
    counts, reference = row(40, 60, 55), row(300, 280, 330)
    expected = stats.chi2_contingency(np.concatenate([counts, reference]), correction=False).pvalue
    assert statistics.chi_squared_p_values(counts, reference)[0] == pytest.approx(expected, rel=1e-9)


def test_rare_categories_are_pooled() -> None:
    counts, reference = row(100, 100, 1, 2, 0), row(200, 200, 0, 2, 3)
    pooled = np.array([[100, 100, 3], [200, 200, 5]])
    expected = stats.chi2_contingency(pooled, correction=False).pvalue
    assert statistics.chi_squared_p_values(counts, reference)[0] == pytest.approx(expected, rel=1e-9)


def test_what_is_rare_in_the_smaller_side_is_pooled_however_often_the_larger_one_has_it() -> None:
    counts, reference = row(290, 300, 1, 9), row(29_000, 30_000, 300, 290)  # 3 and 3.5 expected in 600 rows
    pooled = np.array([[290, 300, 10], [29_000, 30_000, 590]])
    statistic, degrees = statistics.chi_squared(counts, reference)
    expected = stats.chi2_contingency(pooled, correction=False)
    assert (statistic[0], degrees[0]) == (pytest.approx(expected.statistic), 2)


def test_one_category_cannot_differ() -> None:
    assert statistics.chi_squared_p_values(row(0, 300), row(0, 1000))[0] == 1


def test_excess_agrees_with_the_pooled_z_test() -> None:
    # One-sided z-test of two proportions: its square is the chi-squared of the 2 x 2 table.
    found = statistics.excess_p_values(np.array([40.0]), 400, np.array([50.0]), 1000)[0]
    table = np.array([[40, 360], [50, 950]])
    assert found == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue / 2, rel=1e-9)


def test_a_share_that_fell_is_no_excess() -> None:
    assert statistics.excess_p_values(np.array([0.0]), 400, np.array([50.0]), 1000)[0] > 0.99


def test_psi_of_few_rows_cries_wolf() -> None:
    """Why there is a minimum of rows: nothing differs here but by chance."""
    random, shares = np.random.default_rng(0), np.full(10, 0.1)
    reference = random.multinomial(1_000, shares, 5_000).astype(np.float64)
    alarms = {
        rows: (
            statistics.population_stability(
                statistics.sides(random.multinomial(rows, shares, 5_000).astype(float), reference)
            )
            > 0.1
        ).mean()
        for rows in (100, 300)
    }
    assert alarms[100] == pytest.approx(0.39, abs=0.03)
    assert alarms[300] < 0.015


def test_benjamini_hochberg_agrees_with_scipy() -> None:
    p_values = np.array([0.001, 0.04, 0.03, 0.5, 0.0002, 1.0])
    assert statistics.benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))
    assert statistics.benjamini_hochberg(np.array([])).size == 0
