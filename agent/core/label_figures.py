"""What labels say about a model, and whether they can be believed. Decisions only; probabilities are exact where it counts."""

import math

from msgspec import Struct

LEVEL = 0.95
"""Of the interval of a real accuracy."""

_SCORE = 1.959963984540054
"""Normal quantile of :data:`LEVEL`, two-sided."""

MINIMUM_SUSPICIOUS = 50
"""Labels, with an expectation, below which agreement is no evidence."""

SUSPICIOUS_LEVEL = 1e-4
"""Chance of so much agreement at most, for labels to look like the model's own output; they are looked at again and again."""

SPARED_ERRORS = 0.75
"""Share of the expected errors that an honest model may make: a calibration is a little off, and models are better than feared."""

MINIMUM_CONTRADICTING = 30
CONTRADICTION_LEVEL = 0.0005
CONTRADICTION_GAP = 0.03
"""Labels, chance and difference from which they show that an estimate is too high (not against the estimate itself, but
against what is expected of exactly these rows: people label what looks odd, so the labelled rows are not like all rows)."""


class Tally(Struct, frozen=True, kw_only=True):
    """Joined labels; they merge by adding."""

    rows: int = 0
    correct: int = 0
    expected_rows: int = 0
    """Of which the calibration says something."""
    expected_correct: float = 0.0
    """Sum of what it says."""

    def plus(self, other: "Tally") -> "Tally":
        return Tally(
            rows=self.rows + other.rows,
            correct=self.correct + other.correct,
            expected_rows=self.expected_rows + other.expected_rows,
            expected_correct=self.expected_correct + other.expected_correct,
        )

    @property
    def expected(self) -> float | None:
        """Expected accuracy of these rows; None where it is not known of each."""
        if not self.rows or self.expected_rows != self.rows:
            return None
        return min(1.0, max(0.0, self.expected_correct / self.rows))


def interval(correct: int, rows: int) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share at :data:`LEVEL`; (0, 1) without rows."""
    if not rows:
        return 0.0, 1.0
    correct = min(correct, rows)
    share, square = correct / rows, _SCORE**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = _SCORE * math.sqrt(share * (1 - share) / rows + square / (4 * rows * rows)) / (1 + square / rows)
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def chance_of_at_least(correct: int, rows: int, share: float) -> float:
    """P(X ≥ ``correct``), X binomial(``rows``, ``share``); 1.0 where that is no more than the mean.

    Rows whose expectations differ have a distribution no wider than a binomial one of their mean (Hoeffding 1956), so
    this does not find them too surprising.
    """
    if correct <= rows * share:
        return 1.0
    if share <= 0.0 or correct > rows:
        return 0.0
    term = math.exp(
        math.lgamma(rows + 1)
        - math.lgamma(correct + 1)
        - math.lgamma(rows - correct + 1)
        + correct * math.log(share)
        + (rows - correct) * math.log1p(-share)
    )
    total, odds = term, share / (1 - share)
    for count in range(correct, rows):
        term *= (rows - count) / (count + 1) * odds
        total += term
        if term < total * 1e-12:
            break
    return min(1.0, total)


def why_suspicious(tally: Tally) -> str | None:
    """Why these labels look like the model's own output, if they do: they agree improbably often."""
    expected = tally.expected
    if expected is None or tally.rows < MINIMUM_SUSPICIOUS or expected >= 1.0:
        return None
    spared = 1 - (1 - expected) * SPARED_ERRORS
    chance = chance_of_at_least(tally.correct, tally.rows, spared)
    if chance >= SUSPICIOUS_LEVEL:
        return None
    return (
        f"{tally.correct} of {tally.rows} labels agree with the model where {expected:.1%} are expected to (by chance less "
        f"often than {SUSPICIOUS_LEVEL:g}): they may be its own output"
    )


def why_contradicted(tally: Tally) -> str | None:
    """Why a label-free estimate does not hold, if labels show that the model is wrong more often than it expects."""
    expected = tally.expected
    if expected is None or tally.rows < MINIMUM_CONTRADICTING:
        return None
    if expected - tally.correct / tally.rows < CONTRADICTION_GAP:
        return None
    if chance_of_at_least(tally.rows - tally.correct, tally.rows, 1 - expected) >= CONTRADICTION_LEVEL:
        return None
    return (
        f"Labels contradict it: {tally.correct} of {tally.rows} labelled requests are right, {expected:.1%} were expected of "
        "just these."
    )
