"""What a technician is told about drift beside the figures, and what to do next. Pure."""

from collections.abc import Iterator
from datetime import UTC, datetime

from agent.protocol.control import DriftReport
from agent.protocol.drift import DriftWindow, VerdictLevel
from agent.protocol.drift_words import percent
from agent.protocol.labels import AccuracyFigure
from agent.protocol.progress import duration

DAY = 86_400
RAISED: frozenset[VerdictLevel] = frozenset({"warning", "drift"})


def minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")


def state(report: DriftReport) -> tuple[VerdictLevel, str]:
    """The level to believe, and since when: the alarm's where there is one, for one window alone proves nothing."""
    window = report.window
    alarm = window.alarm
    if alarm is None:
        return window.verdict.level, ""
    span = max(0.0, window.closed - alarm.since)
    windows = "1 window" if alarm.windows == 1 else f"{alarm.windows} windows"
    lasts = f"{span / DAY:.0f} days" if span >= 2 * DAY else duration(span)
    since = f"since {minute(alarm.since)} ({windows}, {lasts})"
    level = window.verdict.level
    if level in (alarm.level, "insufficient data"):
        return alarm.level, since
    if alarm.level in RAISED and level not in RAISED:
        return alarm.level, f"{since}; its newest window is {level}: the alarm stands until more are"
    if level in RAISED and alarm.level not in RAISED:
        return level, "in its newest window alone; an alarm needs more of them"
    return alarm.level, f"{since}; its newest window says {level}"


def notes(window: DriftWindow) -> Iterator[str]:
    """What has to be known of a window beside its verdict."""
    if window.incomplete:
        yield "the newest window was cut off: the runner ended before it could close it"
    if window.merged > 1:
        yield f"{window.merged} windows were merged into it to save bytes"
    if window.withheld is not None:
        yield f"its counts are {window.withheld.mechanism} for privacy"
    if window.alarm is not None and window.alarm.changed:
        yield f"abrupt change in: {', '.join(window.alarm.changed)}"


def accuracy(report: DriftReport) -> Iterator[str]:
    """Estimated without labels, and counted from labels."""
    estimate = report.window.estimate
    if estimate is not None:
        yield (
            f"by its own confidence about {percent(estimate.accuracy)} right "
            f"({percent(estimate.low)} to {percent(estimate.high)}, {estimate.rows:,} rows)"
        )
    elif report.window.estimate_off:
        yield f"not estimated: {report.window.estimate_off}"
    for figure in report.accuracy:
        if figure.origin != "model" and figure.slice is None and figure.rows:
            yield _counted(figure)


def _counted(figure: AccuracyFigure) -> str:
    text = (
        f"by labels of a {figure.origin} {percent(figure.correct / figure.rows)} right "
        f"({percent(figure.low)} to {percent(figure.high)}, {figure.rows:,} rows)"
    )
    return f"{text}; {figure.contradicts}" if figure.contradicts else text


def slice_line(window: DriftWindow) -> tuple[str, VerdictLevel, str]:
    """Name, level and the rest of one slice."""
    estimate = window.estimate
    right = "" if estimate is None else f"about {percent(estimate.accuracy)} right"
    most = window.verdict.moved_most[0] if window.verdict.moved_most else None
    moved = f"{most.signal} ({most.statistic} {most.value:g})" if most is not None else ""
    rest = "  ".join(each for each in (f"{window.rows:,} rows", right, moved) if each)
    return window.slice or "whole", window.verdict.level, rest


def next_steps(report: DriftReport) -> Iterator[str]:
    """What to do, the surest first."""
    level, _ = state(report)
    if level == "insufficient data":
        yield from _too_few(report)
        return
    if level == "ok":
        yield "nothing"
        return
    worst = [signal for signal in report.signals if signal.verdict.level in RAISED]
    if any(signal.verdict.constant for signal in worst):
        yield "a signal hardly changes: is the sensor stuck, covered or unplugged?"
    if any(
        max(signal.verdict.missing_rate, signal.verdict.not_finite_rate) > signal.verdict.psi
        for signal in worst
    ):
        yield "values are missing: look at the cable, and at the program that asks"
    yield (
        "look at the sensor: lens, light, mounting; then watch the next window: edgeward drift "
        + report.model
    )
    yield "if other devices see the same, the world has changed: tell whoever trains the model"


def _too_few(report: DriftReport) -> Iterator[str]:
    if report.policy is not None:
        yield (
            f"wait: a verdict needs at least {report.policy.minimum_rows} rows in a window, and the newest had "
            f"{report.window.rows}; a verdict on fewer would be a coin toss"
        )
    else:
        yield "wait: a verdict on so few rows would be a coin toss"
