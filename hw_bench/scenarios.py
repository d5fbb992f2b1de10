"""MLPerf Inference scenarios (Reddi et al. 2020): SingleStream, one row after the other; Offline, all rows at once."""

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from agent.protocol.evidence import ScenarioResult
from agent.runner.backends import Array, Backend

Feed = Mapping[str, Array]


class Effort(Struct, frozen=True, kw_only=True):
    """How long each scenario runs: until both lows are reached, but never beyond the high."""

    warm_up_seconds: float
    least_seconds: float
    least_queries: int
    most_seconds: float
    offline_rows: int
    """Rows of one Offline query."""


FULL = Effort(
    warm_up_seconds=0.5, least_seconds=8.0, least_queries=1_000, most_seconds=30.0, offline_rows=256
)
QUICK = Effort(warm_up_seconds=0.1, least_seconds=1.0, least_queries=100, most_seconds=1.8, offline_rows=256)
"""At most about 5 seconds a variant with its start."""


def single_stream(backend: Backend, samples: Feed, effort: Effort, variant: str) -> ScenarioResult:
    """One query is one row; the next is sent when the last is answered."""
    rows = len(next(iter(samples.values())))
    feeds = [
        {name: np.ascontiguousarray(values[row : row + 1]) for name, values in samples.items()}
        for row in range(rows)
    ]
    return _result("single-stream", variant, _time(backend, feeds, effort), rows_per_query=1)


def offline(backend: Backend, samples: Feed, effort: Effort, variant: str) -> ScenarioResult:
    """One query is ``effort.offline_rows`` rows, the samples repeated."""
    rows = effort.offline_rows
    feed = {
        name: np.ascontiguousarray(np.resize(values, (rows, *values.shape[1:])))
        for name, values in samples.items()
    }
    return _result("offline", variant, _time(backend, [feed], effort), rows_per_query=rows)


def _time(
    backend: Backend,
    feeds: list[dict[str, Array]],
    effort: Effort,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> NDArray[np.int64]:
    """Nanoseconds of every query."""
    start = clock()
    query = 0
    while query == 0 or clock() - start < effort.warm_up_seconds * 1e9:
        backend.infer(feeds[query % len(feeds)])
        query += 1
    spent: list[int] = []
    start = now = clock()
    while _goes_on(len(spent), (now - start) / 1e9, effort):
        feed = feeds[len(spent) % len(feeds)]
        before = clock()
        backend.infer(feed)
        now = clock()
        spent.append(now - before)
    return np.array(spent, dtype=np.int64)


def _goes_on(queries: int, seconds: float, effort: Effort) -> bool:
    if queries == 0:
        return True
    if seconds >= effort.most_seconds:
        return False
    return seconds < effort.least_seconds or queries < effort.least_queries


def _result(
    scenario: Literal["single-stream", "offline"],
    variant: str,
    spent: NDArray[np.int64],
    *,
    rows_per_query: int,
) -> ScenarioResult:
    # A percentile is a latency that was measured (nearest rank), never one between two.
    p50, p90, p95, p99 = (np.percentile(spent, [50, 90, 95, 99], method="inverted_cdf") / 1e3).tolist()
    return ScenarioResult(
        scenario=scenario,
        variant=variant,
        queries=len(spent),
        rows_per_query=rows_per_query,
        p50_us=p50,
        p90_us=p90,
        p95_us=p95,
        p99_us=p99,
        rows_per_second=rows_per_query * len(spent) / (float(spent.sum()) / 1e9),
    )
