"""What evidently, River and we are asked, the same for all; written as JSON, since their process has none of our code."""

import numpy as np
from msgspec import Struct
from scipy import stats

from agent.drift.statistics import bin_positions

BINS = 12


class Binned(Struct, frozen=True, kw_only=True):
    """A window and its reference, as counts of bins; every bin of the reference holds something."""

    name: str
    edges: tuple[float, ...]
    positions: tuple[float, ...]
    """Where the rows of each slot are taken to be."""
    reference: tuple[int, ...]
    counts: tuple[int, ...]


class Stream(Struct, frozen=True, kw_only=True):
    """Numbers in a row, for Page-Hinkley."""

    name: str
    values: tuple[float, ...]
    tolerance: float
    threshold: float
    minimum_windows: int


class Questions(Struct, frozen=True, kw_only=True):
    binned: tuple[Binned, ...]
    streams: tuple[Stream, ...]


def questions() -> Questions:
    """Always the same ones."""
    random = np.random.default_rng(17)
    edges = np.linspace(-2.5, 2.5, BINS - 1)
    uneven = np.sort(random.normal(size=BINS - 1))
    binned = [
        _binned(f"{name}, {kind}", own, shift, scale, random)
        for kind, own in (("even bins", edges), ("uneven bins", uneven))
        for name, shift, scale in (
            ("no drift", 0.0, 1.0),
            ("small shift", 0.05, 1.0),
            ("shift", 0.3, 1.0),
            ("large shift", 1.5, 1.0),
            ("wider", 0.0, 1.4),
            ("narrower", 0.0, 0.8),
        )
    ]
    streams = [
        Stream(
            name=f"steps {seed}",
            values=tuple(
                (random.normal(0, 1, 400) + np.repeat(random.normal(0, size, 10), 40)).round(6).tolist()
            ),
            tolerance=tolerance,
            threshold=threshold,
            minimum_windows=minimum,
        )
        for seed, (size, tolerance, threshold, minimum) in enumerate(
            [(0, 1.0, 8.0, 5), (3, 1.0, 8.0, 5), (3, 0.005, 20.0, 30), (10, 0.5, 4.0, 2), (1, 0.1, 10.0, 8)]
        )
    ]
    return Questions(binned=tuple(binned), streams=tuple(streams))


def _binned(name: str, edges: np.ndarray, shift: float, scale: float, random: np.random.Generator) -> Binned:
    def shares(at: np.ndarray) -> np.ndarray:
        return np.diff([0.0, *stats.norm.cdf(at), 1.0])

    own = tuple(edges.tolist())
    return Binned(
        name=name,
        edges=own,
        positions=tuple(bin_positions([own])[0].tolist()),
        reference=tuple(random.multinomial(40_000, shares(edges)).tolist()),
        counts=tuple(random.multinomial(4_000, shares((edges - shift) / scale)).tolist()),
    )
