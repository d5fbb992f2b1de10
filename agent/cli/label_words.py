"""What labels came to, and what they say about a model, as rows of words."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from agent.protocol.control import AccuracyResult, LabelResult
from agent.protocol.labels import SETTLED, AccuracyFigure

SHOWN = 20
"""Labels that could not be joined, one line each."""

FIGURE_COLUMNS = (
    "MODEL",
    "RELEASE",
    "SLICE",
    "LABELS OF",
    "SINCE",
    "RIGHT",
    "REAL (95 %)",
    "EXPECTED",
    "ESTIMATE",
)


def answer_lines(result: LabelResult) -> Iterator[str]:
    """How many labels met which outcome, and the first that could not be joined."""
    counts = Counter(answer.outcome for answer in result.answers)
    yield ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "no labels"
    refused = [answer for answer in result.answers if answer.outcome not in SETTLED]
    for answer in refused[:SHOWN]:
        yield f"  {answer.request}: {answer.outcome}: {answer.text}"
    if len(refused) > SHOWN:
        yield f"  … and {len(refused) - SHOWN} more; all of them: --json"


def figure_row(figure: AccuracyFigure) -> tuple[str, ...]:
    """One figure, in :data:`FIGURE_COLUMNS`."""
    real = figure.correct / figure.rows if figure.rows else 0.0
    return (
        figure.model,
        str(figure.release),
        figure.slice or "all",
        figure.origin,
        _day(figure.opened),
        f"{figure.correct} of {figure.rows}",
        f"{real:.1%} ({figure.low:.1%}-{figure.high:.1%})",
        "-" if figure.expected is None else f"{figure.expected:.1%}",
        _estimate(figure),
    )


def figure_notes(result: AccuracyResult) -> Iterator[str]:
    """What must be said beside the figures: each that is suspicious, each estimate that is off, and what is kept."""
    if any(figure.origin == "model" for figure in result.figures):
        yield "labels of a model are no truth: they stand apart, and nothing is judged by them"
    for figure in result.figures:
        whose = f"{figure.model} {figure.release}, {figure.slice or 'all'}, labels of {figure.origin}"
        if figure.suspicious is not None:
            yield f"suspicious: {whose}: {figure.suspicious}"
        if figure.contradicts is not None:
            yield f"estimate off: {whose}: {figure.contradicts}"
    counts = result.counts
    since = "" if counts.oldest is None else f" since {_day(counts.oldest)}"
    skipped = f", {counts.skipped} were too many a minute" if counts.skipped else ""
    yield f"{counts.predictions} predictions kept{since}, {counts.labelled} of them labelled{skipped}"
    if counts.outcomes:
        met = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.outcomes.items()))
        yield f"labels so far: {met}"


def _estimate(figure: AccuracyFigure) -> str:
    if figure.contradicts is not None:
        return "off"
    if figure.estimate is None or figure.estimate_low is None or figure.estimate_high is None:
        return "-"
    return f"{figure.estimate:.1%} ({figure.estimate_low:.1%}-{figure.estimate_high:.1%})"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d")
