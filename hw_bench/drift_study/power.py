"""Streams that change once: how many rows pass until it is said."""

from collections.abc import Iterator

import numpy as np

from hw_bench.drift_study.false_alarms import ALARMING, changed, raised
from hw_bench.drift_study.report import Delay
from hw_bench.drift_study.streams import WINDOW_ROWS, Draw, Stream, reference_of
from hw_bench.drift_study.subjects import Subject

BEFORE = 6
"""Windows before the change; it comes somewhere in the next one."""

AFTER = 12
"""Windows after which nobody waits any longer."""


def changes(subject: Subject) -> Iterator[tuple[str, str, Draw]]:
    """Every kind of change at every strength, and what is drawn then."""
    for kind, strengths in subject.changed.items():
        for strength, population in strengths.items():
            yield kind, strength, Draw(population())
    for kind, weights in subject.weights.items():
        for strength, weight in weights.items():
            yield kind, strength, Draw(subject.clean, weight)


def delay(subject: Subject, kind: str, strength: str, after: Draw, *, runs: int, seed: int) -> Delay:
    """``runs`` streams, each with a reference of its own and a change at a random row."""
    verdicts: list[int | None] = []
    alarms: list[int | None] = []
    abrupt: list[int | None] = []
    early = said = 0
    for number in range(runs):
        rng = np.random.default_rng([seed, number])
        stream = Stream(reference_of(subject, rng), rng)
        offset = int(rng.integers(1, WINDOW_ROWS))
        before = list(stream.send(Draw(subject.clean), BEFORE * WINDOW_ROWS + offset))
        if raised(before[-1].window):
            early += 1
            continue
        windows = [closed.window for closed in stream.send(after, AFTER * WINDOW_ROWS - offset)]
        first = WINDOW_ROWS - offset
        verdicts.append(_first([window.verdict.level in ALARMING for window in windows], first))
        alarms.append(_first(list(map(raised, windows)), first))
        abrupt.append(_first(list(map(changed, windows)), first))
        said += sum(window.verdict.level in ALARMING for window in windows[1:])
    return Delay(
        subject=subject.name,
        kind=kind,
        strength=strength,
        runs=runs,
        early=early,
        verdict=tuple(verdicts),
        alarm=tuple(alarms),
        changed=tuple(abrupt),
        drift_windows=said / max(1, len(verdicts) * (AFTER - 1)),
    )


def _first(said: list[bool], rows: int) -> int | None:
    """Rows from the change to the close of the first window that says it; the first window has ``rows`` of them."""
    return rows + said.index(True) * WINDOW_ROWS if any(said) else None
