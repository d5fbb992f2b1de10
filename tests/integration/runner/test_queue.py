"""A slow model: the loop stays free, the queue is bounded, deadlines hold while a run is under way."""

import json
import socket
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import httpx
import pytest

from agent.protocol.runner import Accept, Accepting, Drain, Drained
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

TURNS = 300_000
"""Some 0.3 s."""
DEPTH = 2
ROW = [1.0, 2.0, 3.0, 4.0]


@pytest.fixture
def slow(runner: RunnerUnderTest) -> RunnerUnderTest:
    tensor = (tiny.spec("x", "FP32", -1, 4),)
    runner.load(
        content=tiny.onnx_busy(TURNS),
        inputs=tensor,
        outputs=(tiny.spec("y", "FP32", -1, 4),),
        queue_depth=DEPTH,
        default_deadline_ms=60_000.0,
    )
    runner.send(Accept())
    runner.wait_for(Accepting)
    return runner


def body(timeout_us: int = 0) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW}
    return json.dumps({"inputs": [tensor], "parameters": {"timeout": timeout_us}}).encode()


def infer(address: str, timeout_us: int = 0) -> httpx.Response:
    url = f"http://{address}/v2/models/tiny/infer"
    return httpx.post(url, content=body(timeout_us), timeout=60)


def test_more_than_may_wait_are_told_503_and_when_to_come_back(slow: RunnerUnderTest, address: str) -> None:
    crowd = 8
    ready = threading.Barrier(crowd)

    def one(_: int) -> httpx.Response:
        ready.wait()
        return infer(address)

    with ThreadPoolExecutor(crowd) as pool:
        answers = list(pool.map(one, range(crowd)))
    good = [each for each in answers if each.status_code == 200]
    refused = [each for each in answers if each.status_code == 503]
    assert len(good) + len(refused) == crowd
    assert len(good) >= DEPTH + 1
    assert refused
    assert all(each.json()["outputs"][0]["data"] == ROW for each in good)
    assert all(
        "2 requests wait" in each.json()["error"] and int(each.headers["retry-after"]) >= 1
        for each in refused
    )
    counts = slow.statistics_when(lambda said: said.requests == len(good))
    assert (counts.turned_away, counts.refused, counts.failures) == (len(refused), 0, 0)


def test_health_is_answered_while_the_model_runs(slow: RunnerUnderTest, address: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(infer, address)
        answered = 0
        while not running.done():
            assert httpx.get(f"http://{address}/v2/health/ready").status_code == 200
            answered += 1
    assert running.result().status_code == 200
    assert answered > 1


def test_a_deadline_is_kept_while_the_model_runs(slow: RunnerUnderTest, address: str) -> None:
    late = infer(address, timeout_us=20_000)
    assert late.status_code == 504
    assert "was given up" in late.json()["error"]
    assert infer(address).status_code == 200
    counts = slow.statistics_when(lambda said: said.requests == 2)
    assert counts.failures == 1


def test_a_run_that_would_not_end_is_cancelled_and_the_next_one_begins(
    runner: RunnerUnderTest, address: str
) -> None:
    """``x[0, 0]`` is the number of turns: one request asks for a day of them."""
    tensor = (tiny.spec("x", "FP32", -1, 4),)
    runner.load(content=tiny.onnx_busy(None), inputs=tensor, outputs=(tiny.spec("y", "FP32", -1, 4),))
    runner.send(Accept())
    runner.wait_for(Accepting)

    def ask(turns: float, timeout_us: int) -> httpx.Response:
        given = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [turns, 0, 0, 0]}
        content = json.dumps({"inputs": [given], "parameters": {"timeout": timeout_us}})
        return httpx.post(f"http://{address}/v2/models/tiny/infer", content=content, timeout=60)

    while ask(20_000, 0).status_code == 200:  # until the runner has learnt that this model is slow
        if runner.statistics_when(lambda said: said.requests > 0).requests > 3:
            break
    assert ask(1e11, 100_000).status_code == 504
    assert ask(10, 20_000_000).status_code == 200


def test_pipelined_requests_of_a_slow_model_keep_their_order(slow: RunnerUnderTest, address: str) -> None:
    head = f"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body())}\r\n\r\n".encode()
    health = f"GET /v2/health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((address.rpartition(":")[0], int(address.rpartition(":")[2]))) as client:
        client.settimeout(60)
        client.sendall(head + body() + health)
        heard = b""
        while data := client.recv(65536):
            heard += data
    first, second = heard.index(b"tiny"), heard.rindex(b"HTTP/1.1 200")
    assert heard.count(b"HTTP/1.1 200") == 2
    assert first < second
    assert heard[second:].endswith(b"\r\n\r\n")


def test_a_draining_runner_finishes_what_waits(slow: RunnerUnderTest, address: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(infer, address) for _ in range(2)]
        wait(running, return_when=FIRST_COMPLETED)
        slow.send(Drain(idle_seconds=30.0))
        assert [each.result().status_code for each in running] == [200, 200]
    assert slow.wait_for(Drained).closed_idle == 0
