"""What one round says, and what the rounds say together: medians of repeated pairs.

A machine's speed drifts while it is measured, by more than what is to be told apart. So servers take turns, each round
gives one ratio between neighbours in time, and the median of these ratios is the result (with its quartiles as spread).

Without NumPy: the process that measures memory may not share its pages with what it measures.
"""

import math
import statistics
from collections.abc import Sequence

from msgspec import Struct

PERCENTILES = (50, 95, 99)


class Sample(Struct, frozen=True, kw_only=True):
    """One server in one round, all clients together."""

    p50_us: float
    p95_us: float
    p99_us: float
    requests_per_second: float
    requests: int


class Spread(Struct, frozen=True, kw_only=True):
    """A quantity over all rounds."""

    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""
    rounds: int


def sample(latencies_us: Sequence[float], seconds: float) -> Sample:
    """Summarise one round.

    Args:
        latencies_us: of every request, microseconds; at least one.
        seconds: how long the round was.

    Raises:
        ValueError: there is no request.
    """
    if not latencies_us:
        raise ValueError("a round without a request says nothing")
    values = sorted(latencies_us)
    p50, p95, p99 = (_percentile(values, percent) for percent in PERCENTILES)
    return Sample(
        p50_us=p50,
        p95_us=p95,
        p99_us=p99,
        requests_per_second=len(values) / seconds,
        requests=len(values),
    )


def _percentile(ascending: Sequence[float], percent: int) -> float:
    """Nearest rank: a latency that was measured, never one between two."""
    return ascending[math.ceil(percent / 100 * len(ascending)) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; raises ``ValueError`` where there are no values."""
    if not values:
        raise ValueError("no rounds, no spread")
    if len(values) == 1:
        return Spread(median=values[0], low=values[0], high=values[0], rounds=1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median=median, low=low, high=high, rounds=len(values))


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratios of the same round; raises ``ValueError`` where the rounds are not the same in number."""
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])
