"""Runs a study: every subject, every change, at the effort that is asked for."""

import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version

from msgspec import Struct

from hw_bench.drift_study.accuracy import accuracy
from hw_bench.drift_study.false_alarms import false_alarms
from hw_bench.drift_study.power import changes, delay
from hw_bench.drift_study.report import StudyReport
from hw_bench.drift_study.streams import WINDOW_ROWS, Draw
from hw_bench.drift_study.subjects import POLICY, SUBJECTS
from hw_bench.machine import machine

FAMILIES = 2
"""Of tests in a verdict, each corrected to ``alpha``: of distributions, and of shares (missing, outside, not finite)."""

STATED_LEVEL = FAMILIES * POLICY.alpha
"""Share of windows without drift that may say warning or drift: what two corrected families allow together."""

ALARM_LEVEL = POLICY.alpha
"""Share of windows without drift in which the alarm may be up."""

STAYS = (1, 2, 5, 10)
"""Rows in a row that show the same."""


class Effort(Struct, frozen=True, kw_only=True):
    """How much is drawn."""

    references: int
    """A subject, for false alarms; 8 windows each."""
    runs: int
    """A change at a strength."""
    calibrations: int
    """A change at a strength; 4 windows each."""
    seed: int = 1


FULL = Effort(references=500, runs=100, calibrations=250)
QUICK = Effort(references=40, runs=8, calibrations=10)


def run_study(effort: Effort, names: list[str], command: str, tell: Callable[[str], None]) -> StudyReport:
    """Everything for these subjects."""
    started = time.monotonic()
    alarms, delays, accuracies = [], [], []
    for name in names:
        tell(f"{name}: data and model …")
        subject = SUBJECTS[name]()
        for stay in STAYS:
            tell(f"{name}: {effort.references} references without drift, each row {stay} times …")
            alarms.append(false_alarms(subject, references=effort.references, seed=effort.seed, stay=stay))
        cases = list(changes(subject))
        for number, (kind, strength, draw) in enumerate(cases):
            tell(f"{name}: {kind}, {strength} ({number + 1} of {len(cases)}) …")
            delays.append(delay(subject, kind, strength, draw, runs=effort.runs, seed=effort.seed))
        for kind, strength, draw in (("none", "", Draw(subject.clean)), *cases):
            accuracies.append(
                accuracy(subject, kind, strength, draw, calibrations=effort.calibrations, seed=effort.seed)
            )
    return StudyReport(
        machine=machine(),
        packages={
            "Python": platform.python_version(),
            **{package: version(package) for package in ("numpy", "scikit-learn", "onnxruntime")},
        },
        command=command,
        made=datetime.now(UTC).strftime("%Y-%m-%d"),
        seconds=time.monotonic() - started,
        what={
            name: f"{SUBJECTS[name]().what}; references of {SUBJECTS[name]().reference_rows} rows"
            for name in names
        },
        level=STATED_LEVEL,
        alarm_level=ALARM_LEVEL,
        window_rows=WINDOW_ROWS,
        persistence=POLICY.persistence,
        false_alarms=tuple(alarms),
        delays=tuple(delays),
        accuracy=tuple(accuracies),
    )
