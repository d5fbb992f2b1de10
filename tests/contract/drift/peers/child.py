"""Runs in the environment of evidently and River, with none of our code: questions as JSON on stdin, answers on stdout."""

import json
import sys
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import (
    chi_stat_test,
    jensenshannon_stat_test,
    ks_stat_test,
    psi_stat_test,
    wasserstein_stat_test,
)
from evidently.legacy.core import ColumnType
from river.drift import PageHinkley

TESTS = {
    "psi": (psi_stat_test, ColumnType.Numerical),
    "js": (jensenshannon_stat_test, ColumnType.Numerical),
    "ks-p": (ks_stat_test, ColumnType.Numerical),
    "wasserstein": (wasserstein_stat_test, ColumnType.Numerical),
    "chi-squared-p": (chi_stat_test, ColumnType.Categorical),
}


Case = dict[str, Any]


def rows(positions: list[float], counts: list[int]) -> pd.Series:
    return pd.Series(np.repeat(positions, counts))


def binned(case: Case) -> dict[str, float]:
    reference = rows(case["positions"], case["reference"])
    current = rows(case["positions"], case["counts"])
    return {
        name: float(test(reference, current, kind, 0.1).drift_score) for name, (test, kind) in TESTS.items()
    }


def changes(stream: Case) -> list[int]:
    detector = PageHinkley(
        min_instances=stream["minimum_windows"],
        delta=stream["tolerance"],
        threshold=stream["threshold"],
        alpha=1.0,
        mode="both",
    )
    seen = []
    for place, value in enumerate(stream["values"]):
        detector.update(value)
        if detector.drift_detected:
            seen.append(place)
    return seen


asked = json.load(sys.stdin)
json.dump(
    {
        "versions": {name: version(name) for name in ("evidently", "river")},
        "binned": {case["name"]: binned(case) for case in asked["binned"]},
        "streams": {stream["name"]: changes(stream) for stream in asked["streams"]},
    },
    sys.stdout,
    indent=1,
    sort_keys=True,
)
