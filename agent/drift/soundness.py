"""What a reference must be so that windows can be judged by it. Each check names the signal."""

import itertools
import math
from collections.abc import Sequence

from agent.drift.embeddings import decode_components
from agent.drift.errors import BadReferenceError
from agent.drift.summaries import ELEMENT_SUMMARIES, PICTURE_SUMMARIES
from agent.protocol.drift import (
    MAX_SLICE_VALUE,
    OTHER_SLICE,
    RESERVED_PARAMETERS,
    Calibration,
    DriftPolicy,
    DriftReference,
    SignalReference,
    SlicePolicy,
    Summary,
)

ROWS_PER_BIN = 25
"""Rows a bin needs before PSI can be believed: 20 bins need 500 (with 10 bins the policy's 300 is more)."""


def required_rows(signal: SignalReference, policy: DriftPolicy) -> int:
    """Rows that a window needs, and that the reference needs, before this signal is judged."""
    return max(policy.minimum_rows, ROWS_PER_BIN * (len(signal.edges) - 1))


def require_sound(reference: DriftReference) -> None:
    """Refuse what contradicts itself.

    Raises:
        BadReferenceError: it does; the text says where.
    """
    names = [signal.name for signal in reference.signals]
    _refuse_twice("signal names", names)
    _refuse_twice("embeddings", [f"{one.source} {one.tensor}" for one in reference.embeddings])
    components = {(one.source, one.tensor): len(decode_components(one)[1]) for one in reference.embeddings}
    for signal in reference.signals:
        problem = contradiction(signal) or _miscounted(signal, reference.rows)
        if not problem and signal.summary == "projection":
            found = components.get((signal.source, signal.tensor), 0)
            if (signal.index or 0) >= found:
                problem = (
                    f"component {signal.index} is asked for, {signal.source} {signal.tensor!r} has {found}"
                )
        if problem:
            raise BadReferenceError(f"reference: signal {signal.name}: {problem}")
    if reference.calibration is not None:
        problem = _calibration_problem(reference.calibration, reference.signals)
        if problem:
            raise BadReferenceError(f"reference: calibration: {problem}")
    policy = reference.policy
    problem = _slices_problem(policy.slices)
    if problem:
        raise BadReferenceError(f"reference: slices: {problem}")
    if policy.psi_drift < policy.psi_warning:
        raise BadReferenceError(
            f"reference: psi_drift {policy.psi_drift} is under psi_warning {policy.psi_warning}"
        )


def _slices_problem(policy: SlicePolicy | None) -> str:
    if policy is None:
        return ""
    if policy.parameter in RESERVED_PARAMETERS:
        return f"the parameter {policy.parameter!r} has a meaning of its own in every request"
    if len(policy.values) > policy.maximum or len(set(policy.values)) < len(policy.values):
        return f"{len(policy.values)} values are declared; up to {policy.maximum} different ones are allowed"
    for value in policy.values:
        plain = 0 < len(value) <= MAX_SLICE_VALUE and value.isprintable() and "=" not in value
        if not plain or value == OTHER_SLICE:
            return (
                f"the value {value[:80]!r} can't be told apart: up to {MAX_SLICE_VALUE} printable characters without '=' "
                f"are allowed, and not {OTHER_SLICE!r}"
            )
    return ""


def require_judgeable(reference: DriftReference) -> None:
    """Refuse a reference that can never give a verdict where it is made: it is not to be discovered in the field.

    Raises:
        BadReferenceError: too few rows in it, or in the windows that its policy makes.
    """
    for signal in reference.signals:
        needed = required_rows(signal, reference.policy)
        present = reference.rows - signal.missing - signal.not_finite
        bins = len(signal.edges) - 1
        if present < needed:
            raise BadReferenceError(
                f"reference: signal {signal.name} with {bins} bins needs {needed} rows, the data has {present}"
            )
        if reference.policy.window_rows < needed:
            raise BadReferenceError(
                f"reference: signal {signal.name} with {bins} bins needs windows of {needed} rows, "
                f"the policy closes them at {reference.policy.window_rows}"
            )


_BELONGS: tuple[tuple[str, frozenset[Summary]], ...] = (
    ("index", ELEMENT_SUMMARIES | {"projection"}),
    ("layout", PICTURE_SUMMARIES),
    ("full_scale", frozenset({"clipping"})),
    ("categories", frozenset({"category"})),
)
"""Field of a signal → the summaries that need it; no other may have it."""


def contradiction(signal: SignalReference) -> str | None:
    """Why a signal's declaration contradicts itself; None where it does not."""
    for field, summaries in _BELONGS:
        if (signal.summary in summaries) != (getattr(signal, field) is not None):
            names = ", ".join(f"'{summary}'" for summary in sorted(summaries))
            return f"'{field}' belongs to summary {names} and to no other, this one is '{signal.summary}'"
    if (signal.index or 0) < 0:
        return "'index' is 0 or more"
    if signal.missing_value is not None and (
        signal.summary not in ELEMENT_SUMMARIES or not math.isfinite(signal.missing_value)
    ):
        return "'missing_value' is a finite number, for summary 'category' or 'value' only"
    codes = signal.categories
    if codes is not None and (not codes or list(codes) != sorted(set(codes))):
        return "'categories' are at least one code, ascending"
    return None


def _miscounted(signal: SignalReference, rows: int) -> str | None:
    edges = signal.edges
    if not all(math.isfinite(edge) for edge in edges):
        return "every edge must be finite"
    if not all(left < right for left, right in itertools.pairwise(edges)):
        return "edges must ascend"
    if signal.categories is not None and edges != tuple(i - 0.5 for i in range(len(signal.categories) + 1)):
        return f"edges of {len(signal.categories)} categories are -0.5, 0.5 and so on, one bin each"
    if len(signal.counts) != len(edges) + 1:
        return f"{len(edges)} edges make {len(edges) + 1} counts, there are {len(signal.counts)}"
    total = sum(signal.counts) + signal.missing + signal.not_finite
    if total != rows:
        return f"counts, missing and not finite add up to {total}, the reference has {rows} rows"
    return None


def _calibration_problem(calibration: Calibration, signals: Sequence[SignalReference]) -> str | None:
    signal = next((signal for signal in signals if signal.name == calibration.signal), None)
    if signal is None or signal.summary != "confidence":
        return f"{calibration.signal} is no confidence signal of the reference"
    if not len(calibration.rows) == len(calibration.correct) == len(signal.counts):
        return (
            f"{calibration.signal} has {len(signal.counts)} slots, there are {len(calibration.rows)} counts of rows and "
            f"{len(calibration.correct)} of correct rows"
        )
    if any(right > rows for right, rows in zip(calibration.correct, calibration.rows, strict=True)):
        return "a slot has more correct rows than rows"
    return None


def _refuse_twice(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadReferenceError(f"reference: {what} must differ, these stand twice: {', '.join(twice)}")
