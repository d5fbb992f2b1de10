"""What labels say, and whether they can be believed; probabilities against scipy."""

import numpy as np
import pytest
from scipy import stats

from agent.core.label_figures import (
    MINIMUM_SUSPICIOUS,
    Tally,
    chance_of_at_least,
    interval,
    why_contradicted,
    why_suspicious,
)


def tally(correct: int, rows: int, expected: float) -> Tally:
    return Tally(rows=rows, correct=correct, expected_rows=rows, expected_correct=expected * rows)


@pytest.mark.parametrize("rows", [1, 7, 50, 400, 20_000])
@pytest.mark.parametrize("share", [0.0, 0.003, 0.5, 0.93, 0.9999, 1.0])
def test_the_tail_is_the_binomials(rows: int, share: float) -> None:
    for correct in sorted({0, 1, rows // 2, min(rows, int(rows * share) + 1), rows}):
        if rows * share < correct <= rows:
            true = float(stats.binom.sf(correct - 1, rows, share))
            assert chance_of_at_least(correct, rows, share) == pytest.approx(true, rel=1e-6, abs=1e-300)
        else:
            assert chance_of_at_least(correct, rows, share) == 1.0


@pytest.mark.parametrize(("correct", "rows"), [(0, 1), (1, 1), (93, 100), (100, 100), (4_999, 10_000)])
def test_the_interval_is_wilsons(correct: int, rows: int) -> None:
    true = stats.binomtest(correct, rows).proportion_ci(0.95, method="wilson")
    low, high = interval(correct, rows)
    assert (low, high) == pytest.approx((true.low, true.high), abs=1e-12)


def test_no_labels_say_nothing() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert Tally().expected is None
    assert why_suspicious(Tally()) is None
    assert why_contradicted(Tally()) is None


def test_labels_that_agree_improbably_often_are_suspicious() -> None:
    assert "300 of 300 labels agree" in str(why_suspicious(tally(300, 300, 0.93)))
    assert why_suspicious(tally(295, 300, 0.8)) is not None
    assert why_suspicious(tally(MINIMUM_SUSPICIOUS - 1, MINIMUM_SUSPICIOUS - 1, 0.1)) is None
    assert why_suspicious(tally(100, 100, 0.98)) is None
    assert why_suspicious(tally(60, 60, 1.0)) is None
    assert why_suspicious(Tally(rows=300, correct=300)) is None  # nothing is expected of them


def test_labels_that_are_wrong_more_often_than_expected_contradict_the_estimate() -> None:
    assert "70 of 100 labelled requests are right, 93.0% were expected" in str(
        why_contradicted(tally(70, 100, 0.93))
    )
    assert why_contradicted(tally(90, 100, 0.93)) is None
    assert why_contradicted(tally(10, 29, 0.93)) is None
    assert why_contradicted(tally(9_200, 10_000, 0.93)) is None  # sure, and of no interest
    assert why_contradicted(tally(100, 100, 0.7)) is None
    assert why_contradicted(Tally(rows=100, correct=10, expected_rows=99, expected_correct=93)) is None


def test_honest_labels_seldom_raise_an_alarm() -> None:
    """Looked at after every ten labels, as a device does: of 1,000 runs with exactly calibrated confidences."""
    rng = np.random.default_rng(0)
    suspicious = contradicted = 0
    for _ in range(1_000):
        expected = rng.choice([0.5, 0.8, 0.95, 0.99], size=500, p=[0.1, 0.1, 0.3, 0.5])
        correct = rng.random(500) < expected
        looks = [
            Tally(
                rows=n,
                correct=int(correct[:n].sum()),
                expected_rows=n,
                expected_correct=float(expected[:n].sum()),
            )
            for n in range(10, 501, 10)
        ]
        suspicious += any(why_suspicious(look) is not None for look in looks)
        contradicted += any(why_contradicted(look) is not None for look in looks)
    assert suspicious == 0
    assert contradicted <= 10


def test_the_models_own_output_is_found_and_so_is_a_model_that_has_become_worse() -> None:
    rng = np.random.default_rng(1)
    found = worse = 0
    for _ in range(200):
        expected = rng.choice([0.5, 0.8, 0.95, 0.99], size=300, p=[0.1, 0.1, 0.3, 0.5])
        correct = rng.random(300) < expected - 0.15
        found += why_suspicious(tally(300, 300, float(expected.mean()))) is not None
        worse += why_contradicted(tally(int(correct.sum()), 300, float(expected.mean()))) is not None
    assert found == 200
    assert worse >= 198
