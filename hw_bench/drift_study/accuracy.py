"""Accuracy estimated without labels, against the accuracy that the labels show."""

from collections import Counter

import msgspec
import numpy as np

from agent.drift import (
    Estimator,
    SignalSpec,
    build_reference,
    signal_values,
)
from agent.drift.binning import Binner
from agent.drift.calibration import Labelled, calibrate
from agent.protocol.drift import DriftPolicy, DriftReference
from hw_bench.drift_study.report import Accuracy, clustered_rate
from hw_bench.drift_study.streams import Draw
from hw_bench.drift_study.subjects import POLICY, Population, Subject
from models.network import IntArray

WINDOWS = 4
"""Of each calibration."""

LEFT_ROWS = 100
"""Rows left for windows, at least, where the data is small."""

_CONFIDENCE = SignalSpec(name="confidence", source="output", tensor="scores", summary="confidence")


def accuracy(
    subject: Subject, kind: str, strength: str, after: Draw, *, calibrations: int, seed: int
) -> Accuracy:
    """Each calibration takes rows of its own from the clean data; windows come from the others."""
    truths: list[float] = []
    reasons: Counter[str] = Counter()
    held: list[list[bool]] = []
    errors: list[float] = []
    reaches: list[float] = []
    known = min(subject.reference_rows, len(subject.clean.labels) - LEFT_ROWS)
    for number in range(calibrations):
        rng = np.random.default_rng([seed, number])
        order = rng.permutation(len(subject.clean.labels))
        reference = _calibrated(subject.clean, order[:known])
        estimator, binner = Estimator(reference), Binner(reference.signals)
        values = signal_values(reference, {}, {"scores": after.population.scores})
        here: list[bool] = []
        for _ in range(WINDOWS):
            rows = _window(after, order[known:], rng)
            correct = after.population.correct[rows]
            truths.append(float(correct.mean()))
            found = estimator.estimate(binner.split(binner.count(values[rows])))
            if found.estimate is None:
                reasons[_short(found.off or "")] += 1
                continue
            estimate = found.estimate
            here.append(estimate.low <= truths[-1] <= estimate.high)
            errors.append(estimate.accuracy - truths[-1])
            reaches.append((estimate.high - estimate.low) / 2)
        held.append(here)
    return Accuracy(
        subject=subject.name,
        kind=kind,
        strength=strength,
        windows=len(errors),
        off=1 - len(errors) / len(truths),
        reason=reasons.most_common(1)[0][0] if reasons else "",
        truth=float(np.mean(truths)),
        bias=_mean(errors),
        error=_mean([abs(error) for error in errors]),
        reach=_mean(reaches),
        coverage=clustered_rate(held),
    )


def _calibrated(clean: Population, rows: IntArray) -> DriftReference:
    outputs = {"scores": clean.scores[rows]}
    policy = DriftPolicy(window_rows=POLICY.window_rows, minimum_rows=POLICY.minimum_rows)
    reference = build_reference(
        [_CONFIDENCE], inputs={}, outputs=outputs, dataset_sha256="0" * 64, policy=policy
    )
    labelled = Labelled(
        confidence=signal_values(reference, {}, outputs)[:, 0], correct=clean.correct[rows].astype(np.bool_)
    )
    return msgspec.structs.replace(reference, calibration=calibrate(reference.signals[0], labelled))


def _window(after: Draw, allowed: IntArray, rng: np.random.Generator) -> IntArray:
    """A window's rows, of those that the calibration has not seen."""
    if after.weights is None:
        return rng.choice(allowed, POLICY.window_rows)
    share = after.weights[allowed]
    return rng.choice(allowed, POLICY.window_rows, p=share / share.sum())


def _short(reason: str) -> str:
    """What the reason is, without its figures, so that the same one is counted together."""
    for words, short in (
        ("would be known to", "interval too wide"),
        ("were answered wrongly", "too few wrong answers in the calibration"),
        ("calibration failed", "calibration failed"),
        ("no better than chance", "confidence says nothing"),
        ("labelled rows, at least", "too few labelled rows"),
    ):
        if words in reason:
            return short
    return reason


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
