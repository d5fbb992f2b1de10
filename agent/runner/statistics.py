"""Counts and times of one runner. One thread calls everything here."""

import time

from msgspec import Struct

from agent.protocol.latency import LatencySketch
from agent.protocol.runner import Served, Statistics


class Duration(Struct, frozen=True):
    """A cumulative time, as the Open Inference Protocol's statistics tell it."""

    count: int
    ns: int
    """Nanoseconds in all."""


class InferenceStatistics(Struct, frozen=True, kw_only=True):
    """The Open Inference Protocol's model statistics, since this runner's start.

    ``success`` and ``fail`` are whole requests; the four parts are those of the successful ones and add up to
    ``success``.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    """From its turn until the model had its input: decoding and checks."""
    compute_infer: Duration
    compute_output: Duration
    """After the model's answer: drift bookkeeping, checks, encoding."""
    inference_count: int
    """Rows inferred successfully."""
    execution_count: int
    """Runs of the model that succeeded."""
    last_inference: int
    """Milliseconds since the epoch of the newest request; 0 where there was none."""


class ServingStatistics:
    """What one runner has answered since its start."""

    def __init__(self) -> None:
        self._latency = LatencySketch()
        """Everything up to the last report."""
        self._recent = LatencySketch()
        """Everything since."""
        self._requests = 0
        self._failures = 0
        self._not_finite = 0
        self._refused = 0
        self._turned_away = 0
        self._rows = 0
        self._executions = 0
        self._total = 0.0
        self._failed = 0.0
        self._queued = 0.0
        self._input = 0.0
        self._infer = 0.0
        self._last = 0.0
        self._reported: tuple[int, int, int, int] = (0, 0, 0, 0)
        """Requests, refused, turned away, failures."""

    def answered(
        self,
        seconds: float,
        *,
        failed: bool,
        not_finite: bool = False,
        queued: float = 0.0,
        decoding: float = 0.0,
        inferring: float = 0.0,
        rows: int = 1,
        executions: int = 1,
    ) -> None:
        """An inference was answered, well or by the model's own failure. All times in seconds.

        Args:
            seconds: from the request's last byte to its answer.
            failed: by the model's fault; its parts below are not counted.
            not_finite: it failed by outputs that are not finite.
            queued: of these, before it was its turn.
            decoding: of these, from its turn until the model had its input.
            inferring: of these, in the model.
            rows: of its batch.
            executions: runs of the model that began with this request: 0 where it rode with another one.
        """
        self._requests += 1
        self._recent.add(seconds)
        self._last = time.time()
        if failed:
            self._failures += 1
            self._not_finite += not_finite
            self._failed += seconds
            return
        self._total += seconds
        self._queued += queued
        self._input += decoding
        self._infer += inferring
        self._rows += rows
        self._executions += executions

    def refused(self) -> None:
        """A request was refused by its client's fault."""
        self._refused += 1

    def turned_away(self) -> None:
        """A request was not taken because too many were waiting."""
        self._turned_away += 1

    @property
    def refusals(self) -> int:
        """Requests refused by their client's fault."""
        return self._refused

    @property
    def rejections(self) -> int:
        """Requests not taken because too many were waiting."""
        return self._turned_away

    def changed(self) -> bool:
        """Whether anything happened since the last :meth:`report`."""
        return self._reported != self._counts()

    def _counts(self) -> tuple[int, int, int, int]:
        return self._requests, self._refused, self._turned_away, self._failures

    def report(self) -> Statistics:
        """Counts and quantiles since the start, and the latencies since the last report."""
        _, _, turned_away, failures = self._reported
        self._reported = self._counts()
        recent, self._recent = self._recent.bins(), LatencySketch()
        self._latency.merge(recent)
        return Statistics(
            requests=self._requests,
            failures=self._failures,
            not_finite=self._not_finite,
            refused=self._refused,
            turned_away=self._turned_away,
            p50_ms=self._milliseconds(0.50),
            p95_ms=self._milliseconds(0.95),
            p99_ms=self._milliseconds(0.99),
            recent=Served(
                latencies=recent,
                failures=self._failures - failures,
                turned_away=self._turned_away - turned_away,
            ),
        )

    def inference(self) -> InferenceStatistics:
        """For the protocol's statistics endpoint."""
        good = self._requests - self._failures
        total, queued, given, inferred = map(_ns, (self._total, self._queued, self._input, self._infer))
        return InferenceStatistics(
            success=Duration(good, total),
            fail=Duration(self._failures, _ns(self._failed)),
            queue=Duration(good, queued),
            compute_input=Duration(good, given),
            compute_infer=Duration(good, inferred),
            compute_output=Duration(good, max(0, total - queued - given - inferred)),
            inference_count=self._rows,
            execution_count=self._executions,
            last_inference=int(self._last * 1e3),
        )

    def _milliseconds(self, fraction: float) -> float | None:
        seconds = self._latency.quantile(fraction)
        return None if seconds is None else seconds * 1e3


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
