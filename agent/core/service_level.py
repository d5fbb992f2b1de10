"""The rolling verdict on a release that serves: whole requests, over the newest span, against the signed service level.

The span is kept in slices that are added and removed whole, so that its p99 is the p99 of exactly the requests in it (to
the sketch's 1 %), and its memory does not grow with its length. No clock is read: every call says when it is.
"""

from collections import deque

from agent.protocol.latency import LatencySketch
from agent.protocol.manifest import ServiceLevel
from agent.protocol.runner import Served
from agent.protocol.state import ServiceVerdict

SLICES = 20
"""Parts of a span; it is rolled on by one at a time."""


class _Slice:
    """What was served in one stretch of time."""

    __slots__ = ("begun", "failures", "latencies", "turned_away")

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.latencies = LatencySketch()
        self.failures = 0
        self.turned_away = 0

    def add(self, served: Served) -> None:
        self.latencies.merge(served.latencies)
        self.failures += served.failures
        self.turned_away += served.turned_away


class RollingServiceLevel:
    """The newest ``level.seconds`` of one runner's service, and at most one slice more."""

    def __init__(self, level: ServiceLevel) -> None:
        self.level = level
        self._width = level.seconds / SLICES
        self._slices: deque[_Slice] = deque()
        self._latencies = LatencySketch()
        self._failures = 0
        self._turned_away = 0

    def add(self, served: Served, now: float) -> None:
        """Take what was served up to ``now``, seconds of any clock that never goes back."""
        if not self._slices or now - self._slices[-1].begun >= self._width:
            self._slices.append(_Slice(now))
        self._slices[-1].add(served)
        self._latencies.merge(served.latencies)
        self._failures += served.failures
        self._turned_away += served.turned_away
        self._forget(now)

    def _forget(self, now: float) -> None:
        # A slice goes when its end, not its beginning, is older than the span.
        while self._slices and now - self._slices[0].begun > self.level.seconds + self._width:
            old = self._slices.popleft()
            self._latencies.remove(old.latencies.bins())
            self._failures -= old.failures
            self._turned_away -= old.turned_away

    def verdict(self, now: float) -> ServiceVerdict:
        """How the span that ends ``now`` stands."""
        self._forget(now)
        p99 = self._latencies.quantile(0.99)
        return judge_service(
            self.level,
            requests=self._latencies.total + self._turned_away,
            missed=self._failures + self._turned_away,
            p99_ms=None if p99 is None else p99 * 1e3,
        )


def judge_service(level: ServiceLevel, *, requests: int, missed: int, p99_ms: float | None) -> ServiceVerdict:
    """Judge ``requests`` of the span, of which ``missed`` failed or were turned away.

    ``insufficient data`` below ``level.minimum_requests``, whatever the figures are.
    """
    rate = missed / requests if requests else None
    over = []
    if p99_ms is not None and not p99_ms <= level.p99_ms:
        over.append(f"p99 is {_ms(p99_ms)} ms, {_ms(level.p99_ms)} ms are allowed")
    if rate is not None and not rate <= level.maximum_failure_rate:
        over.append(f"{rate:.2%} failed or were turned away, {level.maximum_failure_rate:.2%} are allowed")
    span = f"{requests} requests in {level.seconds:g} s"
    if requests < level.minimum_requests:
        text = f"{span}, {level.minimum_requests} are needed for a verdict"
        return ServiceVerdict(
            level="insufficient data", requests=requests, p99_ms=p99_ms, failure_rate=rate, text=text
        )
    if over:
        text = f"{' and '.join(over)} ({span})"
        return ServiceVerdict(level="broken", requests=requests, p99_ms=p99_ms, failure_rate=rate, text=text)
    kept = "" if p99_ms is None else f"p99 is {_ms(p99_ms)} of {_ms(level.p99_ms)} ms, "
    text = f"{kept}{rate:.2%} of {level.maximum_failure_rate:.2%} failed or were turned away ({span})"
    return ServiceVerdict(level="ok", requests=requests, p99_ms=p99_ms, failure_rate=rate, text=text)


def _ms(value: float) -> str:
    """Three digits, and no exponent from a thousand on."""
    return f"{value:.0f}" if value >= 999.5 else f"{value:.3g}"  # noqa: PLR2004
