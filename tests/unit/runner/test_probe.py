"""Timing ends early exactly where the p99 can't be kept any more."""

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.golden import Tensor
from agent.protocol.runner import Probe
from agent.runner.backends import Array
from agent.runner.probe import _nearest_rank, _time, compare


class Instant:
    """A model that answers at once; the clock says how long it took."""

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(inputs)

    def cancel(self) -> None:
        pass

    def describe(self) -> str:
        return "instant"


def clock_of(durations_ms: list[float]) -> Iterator[float]:
    """Begin and end of each inference."""
    ends = list(accumulate(duration / 1e3 for duration in durations_ms))
    for begun, ended in zip([0.0, *ends], ends, strict=False):
        yield begun
        yield ended


def timed(durations_ms: list[float], limit: float | None) -> list[float]:
    ticks = clock_of(durations_ms)
    probe = Probe(golden_path="/none", warmup=0, repetitions=len(durations_ms), p99_limit_ms=limit)
    return _time(probe, Instant(), {"x": np.zeros((1, 1))}, 1, lambda: next(ticks))


def test_a_model_far_over_its_limit_is_timed_no_longer_than_needed() -> None:
    assert len(timed([600.0] * 100, 250.0)) == 2


def test_one_outlier_in_a_hundred_does_not_end_it() -> None:
    assert len(timed([600.0] + [1.0] * 99, 250.0)) == 100


def test_without_a_limit_everything_is_timed() -> None:
    assert len(timed([600.0] * 100, None)) == 100


@given(st.lists(st.sampled_from([1.0, 600.0]), min_size=1, max_size=300))
def test_ending_early_never_changes_the_verdict(durations_ms: list[float]) -> None:
    whole = sorted(durations_ms)[math.ceil(0.99 * len(durations_ms)) - 1]
    measured = _nearest_rank(timed(durations_ms, 250.0), 0.99) * 1e3
    assert (measured > 250.0) == (whole > 250.0)
    assert measured == pytest.approx(600.0 if whole > 250.0 else whole)


def test_texts_agree_or_differ_as_a_whole() -> None:
    def packed(*values: bytes) -> bytes:
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)

    want = Tensor(name="y", datatype="BYTES", shape=(2, 2), data=packed(b"a", b"b", b"c", b"d"))

    def answered(*values: bytes) -> dict[str, Array]:
        array = np.empty(4, object)
        array[:] = values
        return {"y": array.reshape(2, 2)}

    assert compare([want], answered(b"a", b"b", b"c", b"d")) == (0.0, 1.0)
    assert compare([want], answered(b"a", b"b", b"c", b"x")) == (math.inf, 0.5)
