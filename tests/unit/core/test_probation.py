"""Probation ends by evidence, and by nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from agent.core.probation import SLOW_SHARE, ProbationLevel, Seen, judge_probation, too_slow
from agent.protocol.manifest import Probation, ServiceLevel
from agent.protocol.state import Reason

PROBATION = Probation(requests=50, maximum_failure_rate=0.1, maximum_seconds=60.0)
LEVEL = ServiceLevel(p99_ms=100.0)
GOLDEN = Reason(code="golden-mismatch", text="outputs differ from the golden vectors")


def seen(**fields: Any) -> Seen:
    return Seen(**{"elapsed": 1.0, "alive": True, **fields})


@pytest.mark.parametrize(
    ("requests", "failures", "elapsed", "level", "code"),
    [
        (0, 0, 0.0, ProbationLevel.WAIT, "on-probation"),
        (49, 0, 59.9, ProbationLevel.WAIT, "on-probation"),
        (50, 0, 0.0, ProbationLevel.PASS, "enough-requests"),
        (50, 5, 0.0, ProbationLevel.PASS, "enough-requests"),
        (50, 6, 0.0, ProbationLevel.FAIL, "failure-rate"),
        (100, 10, 0.0, ProbationLevel.PASS, "enough-requests"),
        (100, 11, 0.0, ProbationLevel.FAIL, "failure-rate"),
        (10, 5, 0.0, ProbationLevel.WAIT, "on-probation"),  # 45 good ones can still come
        (10, 6, 0.0, ProbationLevel.FAIL, "failure-rate"),  # it can't pass any more
        (0, 0, 60.0, ProbationLevel.CHECK, "on-probation"),
        (20, 2, 60.0, ProbationLevel.CHECK, "on-probation"),
        (20, 3, 60.0, ProbationLevel.FAIL, "failure-rate"),
        (20, 3, 59.9, ProbationLevel.WAIT, "on-probation"),
    ],
)
def test_it_ends_by_what_was_answered(
    requests: int, failures: int, elapsed: float, level: ProbationLevel, code: str
) -> None:
    verdict = judge_probation(seen(requests=requests, failures=failures, elapsed=elapsed), PROBATION)
    assert (verdict.level, verdict.reason.code) == (level, code)


def test_time_alone_never_passes_it() -> None:
    late = seen(elapsed=1e6, requests=3)
    assert judge_probation(late, PROBATION).level is ProbationLevel.CHECK
    right = judge_probation(seen(elapsed=1e6, requests=3, checked=True), PROBATION)
    assert (right.level, right.reason.code) == (ProbationLevel.PASS, "time-passed")
    assert right.reason.text == (
        "3 of 50 requests in 1000000 s; its golden outputs are right; 0 of 3 requests failed"
    )
    wrong = judge_probation(seen(elapsed=60.0, requests=3, checked=True, against=GOLDEN), PROBATION)
    assert (wrong.level, wrong.reason.code) == (ProbationLevel.FAIL, "golden-mismatch")
    assert wrong.reason.text == f"after 3 of 50 requests in 60 s: {GOLDEN.text}"


def test_it_lasts_its_least_time_however_many_ask() -> None:
    patient = Probation(requests=5, minimum_seconds=30.0)
    early = judge_probation(seen(elapsed=29.9, requests=500), patient)
    assert early.level is ProbationLevel.WAIT
    assert early.reason.text == "on probation: 30 of 30 s; 0 of 500 requests failed"
    assert judge_probation(seen(elapsed=30.0, requests=500), patient).level is ProbationLevel.PASS
    few = judge_probation(seen(elapsed=31.0, requests=4), patient)
    assert few.reason.text == "on probation: 4 of 5 requests; 0 of 4 requests failed"


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"alive": False}, "runner-exited", "the runner exited on probation; 0 of 500 requests failed"),
        (
            {"failures": 1, "not_finite": 1},
            "not-finite",
            "1 of 500 requests were answered with NaN or infinite values for finite inputs",
        ),
        (
            {"slow": 50},
            "latency-over-level",
            "50 of 500 requests took longer than 100 ms, which 1% may (the p99 of the service level)",
        ),
        ({"drift": "PSI of x is 0.4"}, "drift", "drift was found on probation: PSI of x is 0.4"),
    ],
)
def test_each_thing_that_fails_it_though_enough_was_answered(
    fields: dict[str, Any], code: str, text: str
) -> None:
    verdict = judge_probation(seen(requests=500, elapsed=1e6, **fields), PROBATION, LEVEL)
    assert (verdict.level, verdict.reason.code, verdict.reason.text) == (ProbationLevel.FAIL, code, text)


def test_a_release_says_whether_drift_is_its_fault() -> None:
    indifferent = Probation(requests=50, drift="ignore")
    verdict = judge_probation(seen(requests=50, drift="PSI of x is 0.4"), indifferent)
    assert verdict.level is ProbationLevel.PASS


def test_latency_needs_a_declared_level() -> None:
    assert judge_probation(seen(requests=50, slow=50), PROBATION).level is ProbationLevel.PASS


def test_without_an_allowance_the_first_failure_ends_it() -> None:
    strict = Probation(requests=50, maximum_failure_rate=0.0)
    assert judge_probation(seen(requests=1, failures=1), strict).level is ProbationLevel.FAIL


@given(st.integers(1, 5_000), st.data())
def test_too_slow_is_never_said_of_what_chance_explains(requests: int, data: st.DataObject) -> None:
    slow = data.draw(st.integers(0, requests))
    if too_slow(slow, requests):
        assert binom.sf(slow - 1, requests, SLOW_SHARE) < 1e-4


@pytest.mark.parametrize(("slow", "requests", "verdict"), [
    (0, 0, False), (2, 5, False), (3, 5, True), (1, 100, False), (5, 50, False), (6, 50, True),
    (9, 100, True), (100, 100, True), (1_500, 100_000, True), (1_000, 100_000, False),
])  # fmt: skip
def test_how_many_slow_ones_are_too_many(slow: int, requests: int, verdict: bool) -> None:  # noqa: FBT001 - a table
    assert too_slow(slow, requests) is verdict
