"""Probation: what is seen of a candidate that serves, against what its signed manifest asks for. Pure.

It ends by evidence: enough good answers over long enough, or, where nobody asks, a time after which the candidate has
answered its golden inputs once more. It fails by evidence too, and as soon as it can no longer pass.
"""

import math
from enum import StrEnum

from msgspec import Struct

from agent.protocol.ids import Count, Seconds
from agent.protocol.manifest import Probation, ServiceLevel
from agent.protocol.state import Reason

SLOW_SHARE = 0.01
"""Of all requests, which may take longer than the service level's p99."""
_ODDS = 1e4
"""A candidate that just keeps its service level is called too slow less than once in so many probations."""


class ProbationLevel(StrEnum):
    """How probation stands."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WAIT = "wait"
    CHECK = "check"
    """Its time is over and few have asked: have it answer its golden inputs, then judge again with ``checked``."""


class Seen(Struct, frozen=True, kw_only=True):
    """What is seen of the candidate since it was activated."""

    elapsed: Seconds
    alive: bool
    """Its runner has not exited, and accepts."""
    requests: Count = 0
    """Answered inferences, good and failed."""
    failures: Count = 0
    """Of these, the model's own."""
    not_finite: Count = 0
    """Of these, outputs with NaN or infinite values for finite inputs."""
    slow: Count = 0
    """Of ``requests``, those that took longer than the service level's p99; 0 where none is declared."""
    drift: str | None = None
    """What a closed window said that found drift, in words."""
    checked: bool = False
    """It has just been asked for its golden outputs,"""
    against: Reason | None = None
    """and this is what speaks against them."""


class ProbationVerdict(Struct, frozen=True, kw_only=True):
    """Whether probation ends, and by what evidence."""

    level: ProbationLevel
    reason: Reason


def judge_probation(seen: Seen, probation: Probation, level: ServiceLevel | None = None) -> ProbationVerdict:
    """Judge the candidate on probation.

    ``level``: the service level of this hardware class, where one is declared. Codes: ``runner-exited``, ``not-finite``,
    ``failure-rate``, ``latency-over-level``, ``drift``, those of the golden check, ``enough-requests``, ``time-passed``,
    ``on-probation``.
    """
    against = _against(seen, probation, level)
    if against is not None:
        return ProbationVerdict(level=ProbationLevel.FAIL, reason=against)
    needed, counted = probation.requests, _counted(seen)
    if seen.requests >= needed and seen.elapsed >= probation.minimum_seconds:
        text = f"{counted} in {seen.elapsed:.0f} s, {needed} requests were asked for"
        return _verdict(ProbationLevel.PASS, "enough-requests", text)
    if seen.elapsed >= probation.maximum_seconds:
        return _time_is_over(seen, probation)
    text = f"on probation: {seen.requests} of {needed} requests; {counted}"
    if seen.requests >= needed:
        text = f"on probation: {seen.elapsed:.0f} of {probation.minimum_seconds:.0f} s; {counted}"
    return _verdict(ProbationLevel.WAIT, "on-probation", text)


def _against(seen: Seen, probation: Probation, level: ServiceLevel | None) -> Reason | None:
    counted = _counted(seen)
    if not seen.alive:
        return Reason(code="runner-exited", text=f"the runner exited on probation; {counted}")
    if seen.not_finite:
        text = f"{seen.not_finite} of {seen.requests} requests were answered with NaN or infinite values for finite inputs"
        return Reason(code="not-finite", text=text)
    if seen.failures > probation.maximum_failure_rate * max(seen.requests, probation.requests):
        text = f"{counted}, at most {probation.maximum_failure_rate:.1%} is allowed"
        return Reason(code="failure-rate", text=text)
    if level is not None and too_slow(seen.slow, seen.requests):
        text = (
            f"{seen.slow} of {seen.requests} requests took longer than {level.p99_ms:.4g} ms,"
            f" which {SLOW_SHARE:.0%} may (the p99 of the service level)"
        )
        return Reason(code="latency-over-level", text=text)
    if seen.drift is not None and probation.drift == "roll-back":
        return Reason(code="drift", text=f"drift was found on probation: {seen.drift}")
    return None


def _time_is_over(seen: Seen, probation: Probation) -> ProbationVerdict:
    counted = _counted(seen)
    if seen.failures > probation.maximum_failure_rate * seen.requests:
        text = f"{counted} in {seen.elapsed:.0f} s, at most {probation.maximum_failure_rate:.1%} is allowed"
        return _verdict(ProbationLevel.FAIL, "failure-rate", text)
    few = f"{seen.requests} of {probation.requests} requests in {seen.elapsed:.0f} s"
    if not seen.checked:
        return _verdict(ProbationLevel.CHECK, "on-probation", f"on probation: {few}; it is checked once more")
    if seen.against is not None:
        return _verdict(ProbationLevel.FAIL, seen.against.code, f"after {few}: {seen.against.text}")
    text = f"{few}; its golden outputs are right; {counted}"
    return _verdict(ProbationLevel.PASS, "time-passed", text)


def too_slow(slow: int, requests: int) -> bool:
    """Whether so many slow requests are more than chance, if :data:`SLOW_SHARE` of them may be slow.

    By Chernoff's bound on the binomial tail (Hoeffding, "Probability inequalities for sums of bounded random variables",
    JASA 1963, theorem 1): ``P(X >= k) <= exp(-n KL(k/n || p))``. It needs no smallest number: 3 of 5 are too many, 2 are not.
    """
    if not requests or slow <= SLOW_SHARE * requests:
        return False
    share = slow / requests
    distance = share * math.log(share / SLOW_SHARE)
    if share < 1:
        distance += (1 - share) * math.log((1 - share) / (1 - SLOW_SHARE))
    return requests * distance > math.log(_ODDS)


def _counted(seen: Seen) -> str:
    return f"{seen.failures} of {seen.requests} requests failed"


def _verdict(level: ProbationLevel, code: str, text: str) -> ProbationVerdict:
    return ProbationVerdict(level=level, reason=Reason(code=code, text=text))
