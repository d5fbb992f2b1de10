"""Every statistic and what it claims: the suite in test_conformance.py holds it to that. A new one is covered by being here."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from msgspec import Struct

from agent.drift import sequential, statistics
from agent.drift.statistics import Floats
from agent.protocol.drift import DriftPolicy, DriftReference, SignalCounts, SignalReference

Measure = Callable[[Floats, Floats], Floats]
"""Counts and reference counts, shape (signals, bins), → shape (signals,)."""

Claim = Literal["symmetric", "unordered", "triangle", "scale-free", "zero"]
"""``symmetric``: both sides may be exchanged. ``unordered``: bins may be permuted. ``triangle``: a metric. ``scale-free``:
shares alone matter. ``zero``: 0 for the same shares."""


class Distance(Struct, frozen=True, kw_only=True):
    name: str
    of: Measure
    claims: frozenset[Claim]
    most: float = np.inf
    source: Callable[..., object]
    """What is tested, for the check that nothing public is left out."""


class Test(Struct, frozen=True, kw_only=True):
    __test__ = False
    name: str
    of: Measure
    """p-values."""
    exact: bool
    """Uniform while nothing changes; else never under uniform (conservative)."""
    source: Callable[..., object]


def _wasserstein(counts: Floats, reference: Floats) -> Floats:
    edges = [tuple(range(counts.shape[1] - 1))] * len(counts)
    return statistics.wasserstein(statistics.sides(counts, reference), statistics.bin_positions(edges))


def _psi(counts: Floats, reference: Floats) -> Floats:
    return statistics.population_stability(statistics.sides(counts, reference))


def _js(counts: Floats, reference: Floats) -> Floats:
    return statistics.jensen_shannon(statistics.sides(counts, reference))


def _ks(counts: Floats, reference: Floats) -> Floats:
    return statistics.kolmogorov_smirnov(statistics.sides(counts, reference))


def _ks_p(counts: Floats, reference: Floats) -> Floats:
    distance = _ks(counts, reference)
    return statistics.ks_p_values(distance, counts.sum(axis=1), reference.sum(axis=1))


def _chi_squared(counts: Floats, reference: Floats) -> Floats:
    return statistics.chi_squared(counts, reference)[0]


def _excess_p(counts: Floats, reference: Floats) -> Floats:
    """That the share of the last bin grew."""
    pairs = zip(counts, reference, strict=True)
    return np.array(
        [
            statistics.excess_p_values(one[-1:], float(one.sum()), known[-1:], float(known.sum()))[0]
            for one, known in pairs
        ]
    )


def _sequential(counts: Floats, reference: Floats) -> Floats:
    """The detector's distance, from where it stands for the same shares."""
    found = [
        _distance(one, known) - _distance(known * 0, known)
        for one, known in zip(counts, reference, strict=True)
    ]
    return np.array(found)


def _distance(counts: Floats, reference: Floats) -> float:
    known = SignalReference(
        name="s",
        source="input",
        tensor="x",
        summary="mean",
        edges=tuple(range(len(reference) - 1)),
        counts=tuple(int(one) for one in reference),
        missing=0,
    )
    whole = DriftReference(
        schema=1, dataset_sha256="0" * 64, rows=int(reference.sum()), signals=(known,), policy=DriftPolicy()
    )
    return float(
        sequential.Distances(whole).of({"s": SignalCounts(counts=tuple(int(one) for one in counts))})[0]
    )


DISTANCES = (
    Distance(
        name="psi",
        of=_psi,
        claims=frozenset({"symmetric", "unordered", "zero"}),
        source=statistics.population_stability,
    ),
    Distance(
        name="js",
        of=_js,
        claims=frozenset({"symmetric", "unordered", "triangle", "scale-free", "zero"}),
        most=1.0,
        source=statistics.jensen_shannon,
    ),
    Distance(
        name="ks",
        of=_ks,
        claims=frozenset({"symmetric", "triangle", "scale-free", "zero"}),
        most=1.0,
        source=statistics.kolmogorov_smirnov,
    ),
    Distance(
        name="wasserstein",
        of=_wasserstein,
        claims=frozenset({"scale-free", "zero"}),
        source=statistics.wasserstein,
    ),
    Distance(
        name="chi-squared",
        of=_chi_squared,
        claims=frozenset({"symmetric", "unordered", "zero"}),
        source=statistics.chi_squared,
    ),
    Distance(
        name="sequential",
        of=_sequential,
        claims=frozenset({"unordered"}),
        source=sequential.Distances,
    ),
)
TESTS = (
    Test(name="ks", of=_ks_p, exact=False, source=statistics.ks_p_values),
    Test(
        name="chi-squared",
        of=statistics.chi_squared_p_values,
        exact=True,
        source=statistics.chi_squared_p_values,
    ),
    Test(name="excess", of=_excess_p, exact=True, source=statistics.excess_p_values),
)
PARTS = {
    statistics.shares,
    statistics.sides,
    statistics.bin_positions,
    statistics.kolmogorov_survival,
    statistics.chi_squared_survival,
    statistics.benjamini_hochberg,
}
"""What statistics are made of; these stand in tests/unit/drift/test_statistics.py, beside scipy."""
