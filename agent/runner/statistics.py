"""Counts and latencies of one runner.

The latency sketch is a histogram with logarithmic bins, as in DDSketch (Masson, Rim, Lee, "DDSketch: a fast and
fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019): value ``x`` falls in bin
``ceil(log_g(x))`` with ``g = (1 + a) / (1 - a)``, and the bin's answer ``2 g^i / (g + 1)`` is within ``a · x`` of it.
"""

import math

from agent.protocol.runner import Statistics

RELATIVE_ERROR = 0.01
"""Of every quantile between :data:`SHORTEST` and :data:`LONGEST`."""

SHORTEST = 1e-6
"""Seconds; what is shorter counts as this."""

LONGEST = 1_000.0
"""Seconds; what is longer counts as this."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)
_OFFSET = math.ceil(math.log(SHORTEST) * _PER_LOG)
_BINS = math.ceil(math.log(LONGEST) * _PER_LOG) - _OFFSET + 1


class LatencySketch:
    """Quantiles of durations in seconds, within :data:`RELATIVE_ERROR`; two sketches add up exactly."""

    def __init__(self) -> None:
        self.counts = [0] * _BINS
        """Durations by bin, the shortest first."""
        self.total = 0
        """Durations taken."""

    def add(self, seconds: float) -> None:
        """Take one duration."""
        bounded = min(max(seconds, SHORTEST), LONGEST)
        self.counts[math.ceil(math.log(bounded) * _PER_LOG) - _OFFSET] += 1
        self.total += 1

    def merge(self, other: "LatencySketch") -> None:
        """Add what ``other`` has taken."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def quantile(self, fraction: float) -> float | None:
        """The duration in seconds at ``fraction`` (0-1) of the ranks; None while there is none."""
        if not self.total:
            return None
        rank = fraction * (self.total - 1)
        seen = 0
        for index, count in enumerate(self.counts):
            seen += count
            if seen > rank:
                return 2 * math.pow(_GAMMA, index + _OFFSET) / (_GAMMA + 1)
        raise AssertionError("the total is the sum of the counts")


class ServingStatistics:
    """What one runner has answered since its start."""

    def __init__(self) -> None:
        self._latency = LatencySketch()
        self._requests = 0
        self._failures = 0
        self._refused = 0
        self._reported: tuple[int, int] = (0, 0)

    def answered(self, seconds: float, *, failed: bool) -> None:
        """An inference was answered, well or by the model's own failure, after ``seconds``."""
        self._requests += 1
        self._failures += failed
        self._latency.add(seconds)

    def refused(self) -> None:
        """A request was refused by its client's fault."""
        self._refused += 1

    def changed(self) -> bool:
        """Whether anything happened since the last :meth:`report`."""
        return self._reported != (self._requests, self._refused)

    def report(self) -> Statistics:
        """Everything since the start."""
        self._reported = (self._requests, self._refused)
        return Statistics(
            requests=self._requests,
            failures=self._failures,
            refused=self._refused,
            p50_ms=self._milliseconds(0.50),
            p95_ms=self._milliseconds(0.95),
            p99_ms=self._milliseconds(0.99),
        )

    def _milliseconds(self, fraction: float) -> float | None:
        seconds = self._latency.quantile(fraction)
        return None if seconds is None else seconds * 1e3
