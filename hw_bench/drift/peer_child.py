"""Runs in the environment of whylogs and River, with none of our code.

Told the stream's file; then, for each line on stdin, measures what it names and says microseconds of processor time a row.
"""

import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from river.drift import ADWIN
from whylogs.core import DatasetProfile

BATCH = int(sys.argv[2])
ROWS = np.load(sys.argv[1])
NAMES = [f"feature-{index:02}" for index in range(ROWS.shape[1])]


def whylogs_by_row(rows: int) -> float:
    """Each row as the mapping that its API takes; making the mapping is not counted."""
    mappings: list[dict[str, Any]] = [
        dict(zip(NAMES, row, strict=True)) for row in ROWS[:rows].astype(float).tolist()
    ]
    profile = DatasetProfile()
    profile.track(mappings[0])
    before = time.process_time()
    for mapping in mappings:
        profile.track(mapping)
    return (time.process_time() - before) / rows * 1e6


def whylogs_in_batches(rows: int) -> float:
    """Each batch as a data frame; making it is not counted."""
    frames = [
        pd.DataFrame(ROWS[start : start + BATCH], columns=NAMES)
        for start in range(0, rows - BATCH + 1, BATCH)
    ]
    profile = DatasetProfile()
    profile.track(frames[0])
    before = time.process_time()
    for frame in frames:
        profile.track(frame)
    return (time.process_time() - before) / (len(frames) * BATCH) * 1e6


def river_adwin(rows: int) -> float:
    """One detector for each signal, each given its value of the row."""
    table = ROWS[:rows].astype(float).tolist()
    detectors = [ADWIN() for _ in NAMES]
    before = time.process_time()
    for row in table:
        for detector, value in zip(detectors, row, strict=True):
            detector.update(value)
    return (time.process_time() - before) / rows * 1e6


MEASURES: dict[str, Callable[[int], float]] = {
    "whylogs-by-row": whylogs_by_row,
    "whylogs-in-batches": whylogs_in_batches,
    "river-adwin": river_adwin,
}


def say(text: str) -> None:
    """To who asked."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


say(", ".join(f"{name} {version(name)}" for name in ("whylogs", "river", "pandas", "numpy")))
for line in sys.stdin:
    measure, count = line.split()
    say(str(MEASURES[measure](int(count))))
