"""Is the model as often right as it is sure? Counted on labelled data when the reference is made, and checked.

The check is honest where it is made on rows that the shares were not counted from: on data of its own, or else on
random halves of the labelled data, each against the shares of the other one.
"""

import math
from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.drift.binning import Binner, Floats
from agent.drift.estimate import slot_shares
from agent.protocol.drift import Calibration, SignalReference

MINIMUM_LABELLED = 200
"""Labelled rows without which there is no calibration."""

MINIMUM_WRONG = 10
"""Wrong answers among them: without some, nobody knows what the model looks like when it is wrong."""

MAXIMUM_ERROR = 0.05
"""Of the calibration on held-out rows, beyond which accuracy is not estimated."""

SIGNIFICANT = 2.33
"""Score of what is no chance, one-sided at 1 %: that an error is over its limit, that right answers are the surer ones."""

SEED = 0
"""Of the halves."""


class Labelled(Struct, frozen=True, kw_only=True):
    """Held-out rows with labels."""

    confidence: Floats
    """Shape (rows,): the confidence signal."""
    correct: NDArray[np.bool_]
    """Shape (rows,): whether the answer was the label."""
    group: NDArray[np.int64] | None = None
    """Shape (rows,): rows that stem from the same original, for instance copies of a picture, share a number and are never
    in both halves. None: each row stands by itself."""


def calibrate(signal: SignalReference, labelled: Labelled, check: Labelled | None = None) -> Calibration:
    """Count the slots of the confidence signal and check what they say.

    Args:
        signal: the confidence signal of the reference.
        labelled: rows that no training step has seen.
        check: other such rows, to check on; None halves ``labelled`` for the check (all of it is counted).

    Returns:
        the counts; ``problem`` says in a sentence why accuracy must not be estimated from them.
    """
    rows, correct = _counts(signal, labelled)
    if check is None:
        first, second = _halves(labelled)
        pairs = [(first, second), (second, first)]
    else:
        pairs = [(labelled, check)]
    squares, chances = zip(*(_squared_error(signal, fit, held_out) for fit, held_out in pairs), strict=True)
    square = sum(squares) / len(pairs)
    # Both halves tell of the same rows, so the second one does not make chance smaller.
    failed = square - SIGNIFICANT * sum(chances) / len(pairs) > MAXIMUM_ERROR**2
    error = math.sqrt(max(square, 0.0))
    return Calibration(
        signal=signal.name,
        rows=rows,
        correct=correct,
        expected_error=error,
        problem=_problem(signal, rows, correct, error if failed else None),
    )


def _problem(
    signal: SignalReference, rows: Sequence[int], correct: Sequence[int], error: float | None
) -> str | None:
    """``error`` is None where the check was passed."""
    total, right = sum(rows), sum(correct)
    if total < MINIMUM_LABELLED:
        return f"The calibration has {total} labelled rows, at least {MINIMUM_LABELLED} are needed."
    if total - right < MINIMUM_WRONG:
        return (
            f"Only {total - right} of {total} labelled rows were answered wrongly, at least {MINIMUM_WRONG} are needed to "
            f"know how {signal.name} looks then."
        )
    if error is not None:
        return (
            f"The calibration failed: on held-out rows its shares were wrong by {error:.3f}, at most {MAXIMUM_ERROR} is "
            "allowed."
        )
    if separation(rows, correct) < SIGNIFICANT:
        return f"{signal.name} tells right answers from wrong ones no better than chance, so it says nothing about accuracy."
    return None


def _counts(signal: SignalReference, labelled: Labelled) -> tuple[tuple[int, ...], tuple[int, ...]]:
    binner = Binner([signal])
    column = labelled.confidence[:, None]
    every = binner.split(binner.count(column))[signal.name].counts
    right = binner.split(binner.count(column[labelled.correct]))[signal.name].counts
    return every, right


def _halves(labelled: Labelled) -> tuple[Labelled, Labelled]:
    rows = len(labelled.confidence)
    group = np.arange(rows) if labelled.group is None else labelled.group
    _, number = np.unique(group, return_inverse=True)
    chosen = np.random.default_rng(SEED).permutation(int(number.max(initial=-1)) + 1) % 2 == 0
    first = chosen[number]
    return _taken(labelled, first), _taken(labelled, ~first)


def _taken(labelled: Labelled, mask: NDArray[np.bool_]) -> Labelled:
    return Labelled(confidence=labelled.confidence[mask], correct=labelled.correct[mask])


def _squared_error(signal: SignalReference, fit: Labelled, held_out: Labelled) -> tuple[float, float]:
    """Mean squared difference between shares and what held-out rows show, and the standard deviation it has by chance.

    A slot of few rows differs by chance alone, so that much is subtracted (Kumar, Liang and Ma 2019, "Verified
    Uncertainty Calibration", section 4.1); what remains varies as a chi-squared variable of each slot does.
    """
    rows, correct = _counts(signal, fit)
    found, right = _counts(signal, held_out)
    total = max(sum(found), 1)
    square = variance = 0.0
    for share, known, count, correct_here in zip(
        slot_shares(signal, rows, correct), rows, found, right, strict=True
    ):
        if not count:
            continue
        chance = share * (1 - share) * (1 / count + 1 / (known + 1))
        square += count / total * ((correct_here / count - share) ** 2 - chance)
        variance += 2 * (count / total * chance) ** 2
    return square, math.sqrt(variance)


def separation(rows: Sequence[int], correct: Sequence[int]) -> float:
    """Mann-Whitney's score that the slots of right answers lie above those of wrong ones (ties corrected)."""
    right = np.array(correct, dtype=np.float64)
    wrong = np.array(rows, dtype=np.float64) - right
    both = right + wrong
    total, rights, wrongs = both.sum(), right.sum(), wrong.sum()
    if not rights or not wrongs:
        return 0.0
    below = np.cumsum(wrong) - wrong
    statistic = float((right * (below + wrong / 2)).sum())
    ties = float((both**3 - both).sum())
    variance = rights * wrongs / 12 * (total + 1 - ties / (total * (total - 1)))
    return float((statistic - rights * wrongs / 2) / math.sqrt(variance)) if variance > 0 else 0.0
