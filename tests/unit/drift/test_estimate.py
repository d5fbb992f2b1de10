"""Accuracy without labels: from counts alone, with an interval that says what is not known, or a reason."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drift import BadReferenceError, Identity, WindowBuilder, decode_reference, encode_reference
from agent.drift.calibration import Labelled, calibrate, separation
from agent.drift.estimate import estimate_accuracy, wilson
from agent.protocol.drift import (
    AccuracyEstimate,
    Calibration,
    DriftPolicy,
    DriftReference,
    SignalCounts,
    SignalReference,
)

SIGNAL = SignalReference(
    name="confidence",
    source="output",
    tensor="scores",
    summary="confidence",
    edges=(0.0, 0.25, 0.5, 0.75, 1.0),
    counts=(0, 0, 0, 0, 0, 0),
    missing=0,
)
CALIBRATION = Calibration(
    signal="confidence",
    rows=(0, 1_000, 1_000, 1_000, 10_000, 0),
    correct=(0, 125, 375, 625, 9_800, 0),
    expected_error=0.01,
)


def _reference(calibration: Calibration | None = CALIBRATION) -> DriftReference:
    return DriftReference(
        schema=1,
        dataset_sha256="0" * 64,
        rows=0,
        signals=(SIGNAL,),
        policy=DriftPolicy(),
        calibration=calibration,
    )


def _window(*counts: int, missing: int = 0, not_finite: int = 0) -> dict[str, SignalCounts]:
    return {"confidence": SignalCounts(counts=counts, missing=missing, not_finite=not_finite)}


def _estimate(*counts: int) -> AccuracyEstimate:
    estimate = estimate_accuracy(_reference(), _window(*counts)).estimate
    assert estimate is not None
    return estimate


def test_the_estimate_is_the_slots_shares_weighted_by_their_rows() -> None:
    estimate = _estimate(0, 0, 0, 500, 500, 0)
    assert estimate.accuracy == pytest.approx((0.625 + 0.98) / 2, abs=1e-3)
    assert (estimate.level, estimate.rows) == (0.95, 1000)
    assert estimate.low < estimate.accuracy < estimate.high


def test_merged_counts_give_the_weighted_mean_and_a_narrower_interval() -> None:
    first, second, both = (
        _estimate(0, 0, 0, 400, 100, 0),
        _estimate(0, 0, 0, 0, 500, 0),
        _estimate(0, 0, 0, 400, 600, 0),
    )
    assert both.accuracy == pytest.approx((first.accuracy + second.accuracy) / 2)
    assert both.high - both.low < first.high - first.low


def test_however_many_rows_are_merged_the_calibrations_own_uncertainty_stays() -> None:
    small, huge = _estimate(0, 0, 0, 0, 1_000, 0), _estimate(0, 0, 0, 0, 10**9, 0)
    assert huge.high - huge.low < small.high - small.low
    assert huge.high - huge.low > 2 * 0.0025  # ± 2 standard deviations of 9,800 of 10,000


def test_slots_without_labels_lean_on_the_confidence_and_widen_the_interval_until_there_is_none() -> None:
    bare = msgspec.structs.replace(CALIBRATION, rows=(0, 0, 0, 0, 10_000, 0), correct=(0, 0, 0, 0, 9_800, 0))
    some = estimate_accuracy(_reference(bare), _window(0, 0, 0, 60, 940, 0)).estimate
    assert some is not None
    assert some.accuracy == pytest.approx(0.94 * 0.98 + 0.06 * 0.625, abs=1e-3)
    full = _estimate(0, 0, 0, 60, 940, 0)
    assert some.high - some.low > 2 * (full.high - full.low)
    many = estimate_accuracy(_reference(bare), _window(0, 0, 0, 600, 400, 0))
    assert many.estimate is None
    assert many.off is not None
    assert (
        "60% of the rows have confidences of which the reference has fewer than 10 labelled rows" in many.off
    )


def test_a_confidence_over_all_that_were_seen_is_a_claim_and_no_knowledge() -> None:
    """Sure beyond the reference, without one label: what such answers are worth nobody knows."""
    found = estimate_accuracy(_reference(), _window(0, 0, 0, 0, 0, 1_000))
    assert found.estimate is None
    assert found.off is not None
    assert "100% of the rows" in found.off
    some = _estimate(0, 0, 0, 0, 900, 100)
    assert some.high - some.low > 1.5 * (
        _estimate(0, 0, 0, 0, 1_000, 0).high - _estimate(0, 0, 0, 0, 1_000, 0).low
    )


@pytest.mark.parametrize(
    ("reference", "window", "reason"),
    [
        (_reference(None), _window(0, 0, 0, 0, 900, 0), "made without labels"),
        (
            _reference(msgspec.structs.replace(CALIBRATION, problem="Only 3 rows were wrong.")),
            _window(0, 0, 0, 0, 900, 0),
            "Only 3 rows were wrong.",
        ),
        (_reference(), _window(0, 0, 0, 0, 29, 0), "29 rows have a confidence, at least 30 are needed"),
        (
            _reference(),
            _window(0, 0, 0, 0, 800, 0, missing=100, not_finite=100),
            "20% of the rows have no confidence",
        ),
    ],
)
def test_there_is_a_reason_where_there_is_no_estimate(
    reference: DriftReference, window: dict[str, SignalCounts], reason: str
) -> None:
    found = estimate_accuracy(reference, window)
    assert found.estimate is None
    assert found.off is not None
    assert reason in found.off


def test_confidences_that_are_no_probabilities_start_at_the_overall_accuracy() -> None:
    signal = msgspec.structs.replace(SIGNAL, edges=(0.0, 64.0, 128.0, 192.0, 256.0))
    calibration = Calibration(
        signal="confidence", rows=(0, 0, 0, 100, 900, 0), correct=(0, 0, 0, 0, 900, 0), expected_error=0.0
    )
    reference = msgspec.structs.replace(_reference(calibration), signals=(signal,))
    estimate = estimate_accuracy(reference, _window(0, 10, 0, 0, 990, 0)).estimate
    assert estimate is not None
    assert estimate.accuracy == pytest.approx(0.999, abs=1e-3)  # 1 % of the rows at 0.9, the rest at almost 1


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_wilsons_interval_holds_its_level(share: float) -> None:
    correct = np.random.default_rng(0).binomial(400, share, 20_000) / 400
    held = np.mean([low <= share <= high for low, high in (wilson(x, 400, 0.95) for x in correct.tolist())])
    assert held == pytest.approx(0.95, abs=0.02)


def _labelled(rows: int, *, seed: int = 0, honest: float = 1.0) -> Labelled:
    """Confidences of 0-1, right as often as they say (to the power ``honest``)."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, rows)
    return Labelled(confidence=confidence, correct=rng.uniform(0, 1, rows) < confidence**honest)


def test_an_honest_model_passes_the_check_and_its_rows_are_counted_by_slot() -> None:
    labelled = _labelled(4_000)
    calibration = calibrate(SIGNAL, labelled)
    assert calibration.problem is None
    assert sum(calibration.rows) == 4_000
    assert sum(calibration.correct) == labelled.correct.sum()
    assert calibration.rows[0] == calibration.rows[-1] == 0
    assert calibration.expected_error < 0.02


def test_an_overconfident_model_is_calibrated_by_its_labels() -> None:
    """Confidence squared is right: the shares are counted, so the check on halves passes and the estimate is true."""
    calibration = calibrate(SIGNAL, _labelled(8_000, honest=2.0))
    assert calibration.problem is None
    estimate = estimate_accuracy(_reference(calibration), _window(0, 250, 250, 250, 250, 0)).estimate
    assert estimate is not None
    assert estimate.accuracy == pytest.approx(1 / 3, abs=0.03)


def test_the_check_fails_on_rows_for_which_the_shares_are_wrong() -> None:
    calibration = calibrate(SIGNAL, _labelled(4_000), check=_labelled(4_000, seed=1, honest=2.0))
    assert calibration.problem is not None
    assert calibration.problem.startswith(
        "The calibration failed: on held-out rows its shares were wrong by 0.1"
    )
    assert calibrate(SIGNAL, _labelled(4_000), check=_labelled(4_000, seed=1)).problem is None


def test_chance_alone_does_not_fail_the_check() -> None:
    """Few rows a slot differ a lot; that part is subtracted."""
    problems = [calibrate(SIGNAL, _labelled(250, seed=seed)).problem for seed in range(40)]
    assert sum(problem is not None and "failed" in problem for problem in problems) <= 2


@pytest.mark.parametrize(
    ("labelled", "reason"),
    [
        (_labelled(199), "has 199 labelled rows, at least 200 are needed"),
        (
            Labelled(confidence=np.full(400, 0.9), correct=np.arange(400) >= 9),
            "Only 9 of 400 labelled rows were answered wrongly",
        ),
        (
            Labelled(confidence=np.linspace(0, 1, 400), correct=np.arange(400) % 2 == 0),
            "tells right answers from wrong ones no better than chance",
        ),
    ],
)
def test_a_calibration_that_proves_nothing_says_why(labelled: Labelled, reason: str) -> None:
    signal = msgspec.structs.replace(SIGNAL, edges=(0.0, 128.0, 255.0)) if "tells" in reason else SIGNAL
    if "tells" in reason:  # on a scale of its own, so that no slot starts at a claim that halves contradict
        labelled = msgspec.structs.replace(labelled, confidence=labelled.confidence * 255)
    problem = calibrate(signal, labelled).problem
    assert problem is not None
    assert reason in problem


def test_copies_of_one_row_are_never_in_both_halves() -> None:
    """Ten copies of 400 rows: without groups the copies' own chance looks like skill."""
    once = _labelled(400, seed=3)
    many = Labelled(
        confidence=np.tile(once.confidence, 10),
        correct=np.tile(once.correct, 10),
        group=np.tile(np.arange(400), 10),
    )
    ungrouped = msgspec.structs.replace(many, group=None)
    assert calibrate(SIGNAL, many).expected_error > calibrate(SIGNAL, ungrouped).expected_error


def test_a_closed_window_carries_its_estimate(identity: Identity) -> None:
    confidence = np.linspace(0.75, 1.0, 400)
    scores = np.stack([confidence, 1 - confidence], axis=1)
    builder = WindowBuilder(identity, _reference())
    builder.add({}, {"scores": scores}, 1.0)
    closed = builder.close(2.0)
    assert closed is not None
    assert closed.window.estimate == _estimate(0, 0, 0, 0, 400, 0)
    assert closed.window.estimate_off is None
    builder.add({}, {"scores": scores[:20]}, 3.0)
    closed = builder.close(4.0)
    assert closed is not None
    assert closed.window.estimate is None
    assert closed.window.estimate_off == "20 rows have a confidence, at least 30 are needed."


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"signal": "brightness"}, "brightness is no confidence signal of the reference"),
        ({"rows": (1, 2)}, "has 6 slots, there are 2 counts of rows and 6 of correct rows"),
        ({"correct": (0, 2_000, 0, 0, 0, 0)}, "a slot has more correct rows than rows"),
    ],
)
def test_a_calibration_that_does_not_fit_its_signal_is_refused(change: dict[str, Any], words: str) -> None:
    wrong = _reference(msgspec.structs.replace(CALIBRATION, **change))
    assert decode_reference(encode_reference(_reference())).calibration == CALIBRATION
    with pytest.raises(BadReferenceError, match=words):
        decode_reference(encode_reference(wrong))


def test_separation_is_mann_whitneys_score() -> None:
    from scipy.stats import mannwhitneyu

    rows, correct = np.array([30, 40, 50, 80]), np.array([5, 18, 30, 70])
    slots = np.arange(4)
    right, wrong = np.repeat(slots, correct), np.repeat(slots, rows - correct)
    expected = mannwhitneyu(right, wrong, alternative="greater", use_continuity=False, method="asymptotic")
    from scipy.stats import norm

    assert norm.sf(separation(rows.tolist(), correct.tolist())) == pytest.approx(expected.pvalue)


_SLOTS = st.tuples(*[st.tuples(st.integers(0, 5_000), st.floats(0, 1)) for _ in range(6)])


@given(
    slots=_SLOTS,
    counts=st.tuples(*[st.integers(0, 10**12) for _ in range(6)]),
    top=st.sampled_from([1.0, 0.9999, 255.0]),
)
def test_whatever_was_counted_the_estimate_lies_in_its_interval_or_there_is_a_reason(
    slots: tuple[tuple[int, float], ...], counts: tuple[int, ...], top: float
) -> None:
    signal = msgspec.structs.replace(SIGNAL, edges=(0.0, 0.25, 0.5, 0.75, top))
    calibration = Calibration(
        signal="confidence",
        rows=tuple(rows for rows, _ in slots),
        correct=tuple(int(rows * share) for rows, share in slots),
        expected_error=0.0,
    )
    reference = msgspec.structs.replace(_reference(calibration), signals=(signal,))
    found = estimate_accuracy(reference, _window(*counts))
    assert (found.estimate is None) != (found.off is None)
    if found.estimate is not None:
        assert 0 <= found.estimate.low <= found.estimate.accuracy <= found.estimate.high <= 1
