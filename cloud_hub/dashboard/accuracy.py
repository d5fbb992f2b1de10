"""How right a model is: estimated without labels, counted from labels, promised by its release; side by side."""

from math import sqrt

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift_words import percent
from cloud_hub.dashboard import words
from cloud_hub.dashboard.drawing.interval import Known, accuracy

Z = 1.959964
"""Of a normal distribution's 95 %."""


class Labelled(Struct, frozen=True, kw_only=True):
    """Labels that came later: rows, and how many of them were right."""

    rows: int
    correct: int


class AccuracyCard(Struct, frozen=True, kw_only=True):
    svg: Markup
    sentences: tuple[str, ...]


def card(
    estimate: Known | None, why_not: str | None, labelled: Labelled, promised: float | None
) -> AccuracyCard:
    """``why_not``: why nothing is estimated, where that is known. ``promised``: the release's own evaluation, 0-1."""
    real = known(labelled) if labelled.rows else None
    sentences = (
        _estimated(estimate, why_not),
        _counted(real, labelled),
        "" if promised is None else f"Its release was evaluated at {percent(promised)} (the dashed line).",
        _compared(estimate, real),
    )
    said = tuple(each for each in sentences if each)
    drawn = estimate is not None or real is not None
    svg = accuracy(estimate, real, promised, " ".join(said)) if drawn else Markup("")
    return AccuracyCard(svg=svg, sentences=said)


def known(labelled: Labelled) -> Known:
    """The share that was right, with Wilson's 95 % interval (Wilson 1927)."""
    n, share = labelled.rows, labelled.correct / labelled.rows
    scale = 1 + Z * Z / n
    middle = (share + Z * Z / (2 * n)) / scale
    half = Z / scale * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return Known(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def _estimated(estimate: Known | None, why_not: str | None) -> str:
    if estimate is None:
        return f"Not estimated: {why_not}" if why_not else "Not estimated."
    return (
        f"By its own confidence (the bar) it is right in about {percent(estimate.value)} of rows, "
        f"between {percent(estimate.low)} and {percent(estimate.high)}."
    )


def _counted(real: Known | None, labelled: Labelled) -> str:
    if real is None:
        return "No labels have come yet, so nobody has counted."
    return (
        f"By labels (the diamond) it was right in {percent(real.value)} of {words.whole(labelled.rows)} rows, "
        f"which makes {percent(real.low)} to {percent(real.high)}."
    )


def _compared(estimate: Known | None, real: Known | None) -> str:
    if estimate is None or real is None:
        return ""
    if estimate.low <= real.high and real.low <= estimate.high:
        return "The two agree."
    way = "worse" if real.value < estimate.value else "better"
    return f"The two do not agree: it is {way} than it believes. Believe the labels."
