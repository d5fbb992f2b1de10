"""Streams that never change: how often something is said of them all the same."""

from collections.abc import Callable, Iterator

import numpy as np

from agent.protocol.drift import DriftWindow
from hw_bench.drift_study.report import FalseAlarms, Rate, clustered_rate
from hw_bench.drift_study.streams import WINDOW_ROWS, Draw, Stream, reference_of
from hw_bench.drift_study.subjects import Subject

ALARMING = {"warning", "drift"}
WINDOWS = 8
"""Of each reference: long enough for an alarm to persist and for the sequential detector to begin."""


def raised(window: DriftWindow) -> bool:
    """Whether the alarm is up."""
    return window.alarm is not None and window.alarm.level in ALARMING


def changed(window: DriftWindow) -> bool:
    """Whether the sequential detector saw a change."""
    return window.alarm is not None and bool(window.alarm.changed)


def false_alarms(subject: Subject, *, references: int, seed: int, stay: int = 1) -> FalseAlarms:
    """Every reference and every window is drawn anew, row by row, from one and the same population."""
    found = [
        list(_windows(subject, stay, np.random.default_rng([seed, number]))) for number in range(references)
    ]

    def rate(said: Callable[[DriftWindow], bool]) -> Rate:
        return clustered_rate([[said(window) for window in windows] for windows in found])

    return FalseAlarms(
        subject=subject.name,
        stay=stay,
        signals=len(subject.signals),
        references=references,
        windows=references * WINDOWS,
        warning=rate(lambda window: window.verdict.level in ALARMING),
        drift=rate(lambda window: window.verdict.level == "drift"),
        alarm=rate(raised),
        changed=rate(changed),
    )


def _windows(subject: Subject, stay: int, rng: np.random.Generator) -> Iterator[DriftWindow]:
    stream = Stream(reference_of(subject, rng), rng)
    for closed in stream.send(Draw(subject.clean, stay=stay), WINDOWS * WINDOW_ROWS):
        yield closed.window
