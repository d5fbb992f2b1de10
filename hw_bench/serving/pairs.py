"""What one round says, and what the rounds say together: medians of repeated pairs.

A machine's speed drifts while it is measured, by more than what is to be told apart. So servers take turns, each round
gives one ratio between neighbours in time, and the median of these ratios is the result (with its quartiles as spread).
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

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
    # A percentile is a latency that was measured (nearest rank), never one between two.
    values: NDArray[np.float64] = np.asarray(latencies_us, np.float64)
    p50, p95, p99 = np.percentile(values, PERCENTILES, method="inverted_cdf").tolist()
    return Sample(
        p50_us=p50,
        p95_us=p95,
        p99_us=p99,
        requests_per_second=len(values) / seconds,
        requests=len(values),
    )


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles; raises ``ValueError`` where there are no values."""
    if not values:
        raise ValueError("no rounds, no spread")
    low, median, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75)).tolist()
    return Spread(median=median, low=low, high=high, rounds=len(values))


def paired(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """The spread of the ratios of the same round; raises ``ValueError`` where the rounds are not the same in number."""
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])
