"""Two real runners: one serves unmodified clients and feeds the other, which is compared with it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.protocol.latency import LatencySketch
from agent.protocol.runner import (
    Accept,
    Accepting,
    Drain,
    Drained,
    EndShadow,
    Shadow,
    ShadowReport,
)
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.conftest import Spawn
from tests.integration.runner.runner_under_test import RunnerUnderTest

SESSIONS = count(1)
OTHER_BIAS = tiny.BIAS + np.array([0.0, 1.5, 0.0], np.float32)
"""Flips the class of some rows."""


def linear(bias: NDArray[np.float32]) -> bytes:
    return tiny.onnx_bytes(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
        [numpy_helper.from_array(tiny.WEIGHT, "w"), numpy_helper.from_array(bias, "b")],
    )


class Pair:
    """``live`` answers clients over TCP; ``candidate`` only on its private socket."""

    def __init__(self, live: RunnerUnderTest, candidate: RunnerUnderTest, address: str) -> None:
        self.live = live
        self.candidate = candidate
        self.address = address
        self.client = triton.InferenceServerClient(address, network_timeout=30.0)
        self.session = 0

    def feed(self, *, share: float = 1.0, requests: int = 1_000_000, tolerance: float | None = None) -> None:
        self.session = next(SESSIONS)
        self.live.send(
            Shadow(
                session=self.session,
                path=str(self.candidate.private_path),
                share=share,
                requests=requests,
                tolerance=tolerance,
            )
        )

    def ask(self, x: NDArray[np.float32]) -> None:
        tensor = triton.InferInput("x", x.shape, "FP32")
        tensor.set_data_from_numpy(x)
        answer = self.client.infer("tiny", [tensor]).as_numpy("y")
        np.testing.assert_allclose(answer, tiny.expected(x), rtol=1e-4, atol=1e-5)

    @contextlib.contextmanager
    def asking(self, ask: Callable[[], None]) -> Iterator[None]:
        """Ask without a pause, in a thread, until what is in the block has happened."""
        over = threading.Event()
        problems: list[Exception] = []

        def run() -> None:
            try:
                while not over.is_set():
                    ask()
            except Exception as error:  # noqa: BLE001 - a live request that failed, whatever the reason
                problems.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        assert problems == []

    def compare(self, x: NDArray[np.float32]) -> ShadowReport:
        """Ask for ``x`` until the session is over by itself."""
        with self._fresh(), self.asking(lambda: self.ask(x)):
            return self.last()

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[None]:
        """gevent, inside tritonclient, keeps to the thread it was first used in."""
        before, self.client = self.client, triton.InferenceServerClient(self.address, network_timeout=30.0)
        try:
            yield
        finally:
            self.client = before

    def end(self) -> ShadowReport:
        self.live.send(EndShadow(session=self.session))
        return self.last()

    def last(self) -> ShadowReport:
        while not (report := self.live.wait_for(ShadowReport)).final:
            pass
        assert report.session == self.session
        return report


MakePair = Callable[..., Pair]


@pytest.fixture
def pair(spawn: Spawn, address: str) -> MakePair:
    def make(content: bytes, **changes: object) -> Pair:
        live, candidate = spawn(), spawn()
        live.load()
        live.send(Accept())
        live.wait_for(Accepting)
        candidate.load(content=content, release=2, **changes)
        return Pair(live, candidate, address)

    return make


def rows_of(seed: int, rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-2, 2, (rows, 4)).astype(np.float32)


def test_every_flipped_class_is_counted_and_nothing_else(pair: MakePair) -> None:
    x = rows_of(1, 20)
    flipped = int((tiny.expected(x).argmax(axis=1) != (x @ tiny.WEIGHT + OTHER_BIAS).argmax(axis=1)).sum())
    assert 2 < flipped < 18
    both = pair(linear(OTHER_BIAS))
    both.feed(requests=60)
    report = both.compare(x)
    assert (report.requests, report.rows, report.disagreed) == (60, 1_200, 60 * flipped)
    assert report.failed == 0
    assert LatencySketch.of([report.latencies]).total == 60


def test_the_same_model_never_disagrees_and_json_and_binary_requests_are_copied_alike(
    pair: MakePair, address: str
) -> None:
    both = pair(tiny.onnx_linear())
    x = rows_of(2, 2)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}]}
    both.feed(requests=20)
    report = both.compare(x)
    assert (report.requests, report.rows, report.disagreed, report.failed) == (20, 40, 0, 0)
    both.feed(requests=20)

    def ask() -> None:
        assert httpx.post(f"http://{address}/v2/models/tiny/infer", json=body).status_code == 200

    with both.asking(ask):
        report = both.last()
    assert (report.requests, report.rows, report.disagreed, report.failed) == (20, 40, 0, 0)


@pytest.mark.parametrize(("tolerance", "disagreed"), [(None, 0), (0.02, 0), (0.005, 5)])
def test_a_tolerance_judges_values_instead_of_classes(
    pair: MakePair, tolerance: float | None, disagreed: int
) -> None:
    both = pair(linear(tiny.BIAS + np.float32(0.01)))
    both.feed(requests=5, tolerance=tolerance)
    assert both.compare(rows_of(3, 1)).disagreed == disagreed


def test_a_share_is_kept_on_average(pair: MakePair) -> None:
    both = pair(tiny.onnx_linear())
    both.feed(share=0.2)
    x = rows_of(4, 1)
    for _ in range(2_000):
        both.ask(x)
    report = both.end()
    # The first ones may come before the order. Five standard deviations of 2,000 draws at 0.2 are 90.
    assert 310 <= report.requests + report.dropped <= 490


def test_a_slow_candidate_drops_copies_and_clients_do_not_wait_for_it(pair: MakePair) -> None:
    turns = 300_000  # about 0.3 s
    x = np.zeros((1, 4), np.float32)
    live_seconds: list[float] = []
    both = pair(tiny.onnx_busy(turns), outputs=(tiny.spec("y", "FP32", -1, 4),), default_deadline_ms=10_000.0)
    both.feed()
    for _ in range(300):
        begun = time.perf_counter()
        both.ask(x)
        live_seconds.append(time.perf_counter() - begun)
    report = both.end()
    assert report.dropped > 200
    assert report.dropped + report.requests <= 300
    # One answer alone takes the candidate longer than all live answers took: nobody waited for it.
    assert report.requests <= 300 * float(np.median(live_seconds)) / 0.02 + 1
    assert float(np.median(live_seconds)) < 0.05


def test_a_candidate_s_error_is_a_disagreement_of_its_rows(pair: MakePair) -> None:
    # It gives NaN where x is negative, which its runner answers with 500.
    both = pair(
        tiny.onnx_bytes(
            [helper.make_node("Gemm", ["x", "w", "b"], ["z"]), helper.make_node("Sqrt", ["z"], ["y"])],
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])],
            [numpy_helper.from_array(tiny.WEIGHT, "w"), numpy_helper.from_array(tiny.BIAS + 2, "b")],
        )
    )
    both.feed(requests=5)
    report = both.compare(np.zeros((2, 4), np.float32))  # the square root keeps the order
    assert (report.requests, report.rows, report.failed, report.disagreed) == (5, 10, 0, 0)
    both.feed(requests=5)
    report = both.compare(np.full((3, 4), 10, np.float32) * np.array([1, -1, 1, -1], np.float32))
    assert (report.requests, report.rows, report.failed, report.disagreed) == (5, 15, 5, 15)


def test_a_candidate_that_is_killed_costs_no_live_request(pair: MakePair) -> None:
    both = pair(tiny.onnx_linear())
    both.feed()
    x = rows_of(5, 1)
    for number in range(300):
        if number == 100:
            both.candidate.process.kill()
        both.ask(x)
    report = both.end()
    assert report.dropped >= 199
    assert report.disagreed == 0


def test_what_a_candidate_was_fed_counts_neither_as_served_nor_for_drift(pair: MakePair) -> None:
    both = pair(tiny.onnx_linear())
    both.feed(requests=5)
    both.compare(rows_of(6, 1))
    both.live.send(Drain(idle_seconds=0))
    both.live.wait_for(Drained)
    both.candidate.send(Accept())
    both.candidate.wait_for(Accepting)
    both.client.close()
    with httpx.Client(base_url=f"http://{address_of(both.candidate.tcp)}") as client:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]}
        assert client.post("/v2/models/tiny/infer", json=body).status_code == 200
    assert both.candidate.statistics_when(lambda told: told.requests > 0).requests == 1


def test_an_order_ends_the_one_before_and_an_end_that_comes_late_ends_nothing(pair: MakePair) -> None:
    both = pair(tiny.onnx_linear())
    both.feed()
    first = both.session
    both.feed()
    report = both.live.wait_for(ShadowReport)
    assert (report.session, report.final) == (first, True)
    both.live.send(EndShadow(session=first))
    x = rows_of(7, 1)
    with both._fresh(), both.asking(lambda: both.ask(x)):
        report = both.live.wait_for(ShadowReport)
        assert (report.session, report.final) == (both.session, False)
    assert both.end().requests >= report.requests


def address_of(tcp: socket.socket) -> str:
    host, port = tcp.getsockname()
    return f"{host}:{port}"
