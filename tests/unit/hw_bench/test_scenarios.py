from collections.abc import Mapping

import numpy as np
import pytest

from agent.runner.backends import Array
from hw_bench.scenarios import Effort, _goes_on, _result, _time, offline, single_stream


class _Recorder:
    """A backend that notes how many rows it was given."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.firsts: list[float] = []

    def infer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.rows.append(len(inputs["x"]))
        self.firsts.append(float(inputs["x"][0, 0]))
        return {}

    def cancel(self) -> None:
        pass

    def describe(self) -> str:
        return "recorder 1"


EFFORT = Effort(warm_up_seconds=0.0, least_seconds=0.0, least_queries=7, most_seconds=5.0, offline_rows=10)
SAMPLES = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}


def test_single_stream_sends_each_sample_alone_in_turn() -> None:
    backend = _Recorder()
    result = single_stream(backend, SAMPLES, EFFORT, "v")
    assert backend.rows == [1] * 8  # one to warm up
    assert backend.firsts[1:] == [0.0, 2.0, 4.0, 0.0, 2.0, 4.0, 0.0]
    assert (result.scenario, result.queries, result.rows_per_query) == ("single-stream", 7, 1)


def test_offline_sends_all_rows_at_once() -> None:
    backend = _Recorder()
    result = offline(backend, SAMPLES, EFFORT, "v")
    assert backend.rows == [10] * 8
    assert (result.scenario, result.queries, result.rows_per_query) == ("offline", 7, 10)


def test_a_slow_model_is_measured_at_least_once_and_not_for_ever() -> None:
    assert _goes_on(0, 99.0, EFFORT)
    assert not _goes_on(1, 5.0, EFFORT)
    assert _goes_on(6, 4.9, EFFORT)
    assert not _goes_on(7, 4.9, EFFORT)


def test_only_the_inference_is_timed() -> None:
    # Warm-up: start, one look. Then the start, and two readings a query.
    readings = iter([0, 0, 1_000, 2_000, 2_500, 9_000, 9_800])
    effort = Effort(warm_up_seconds=0.0, least_seconds=0.0, least_queries=2, most_seconds=1.0, offline_rows=1)
    assert _time(_Recorder(), [SAMPLES], effort, lambda: next(readings)).tolist() == [500, 800]


def test_percentiles_are_measured_values_and_throughput_is_rows_over_time() -> None:
    spent = np.arange(1, 101, dtype=np.int64) * 1_000
    result = _result("offline", "v", spent, rows_per_query=4)
    assert (result.p50_us, result.p90_us, result.p95_us, result.p99_us) == (50.0, 90.0, 95.0, 99.0)
    assert result.rows_per_second == pytest.approx(4 * 100 / (5050 * 1e-6))
