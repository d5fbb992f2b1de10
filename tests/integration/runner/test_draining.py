"""Handing over under load: persistent clients, none of whose requests may fail."""

import socket
import threading
import time
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton

from agent.protocol.runner import Accept, Accepting, Drain, Drained, Statistics
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.conftest import Spawn
from tests.integration.runner.runner_under_test import RunnerUnderTest

HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


class PersistentClient(threading.Thread):
    """One unmodified client on keep-alive connections; counts answers by release, and keeps the first error."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._options = options
        self._over = threading.Event()
        self.answered: Counter[str] = Counter()
        self.error: Exception | None = None

    def run(self) -> None:
        client = triton.InferenceServerClient(self._address, **self._options)
        x = np.ones((1, 4), np.float32)
        tensor = triton.InferInput("x", x.shape, "FP32")
        tensor.set_data_from_numpy(x)
        try:
            while not self._over.is_set():
                answer = client.infer("tiny", [tensor])
                np.testing.assert_allclose(answer.as_numpy("y"), tiny.expected(x), rtol=1e-5)
                self.answered[answer.get_response()["model_version"]] += 1
        except Exception as error:  # noqa: BLE001 (whatever it is, the test shows it)
            self.error = error

    def stop(self) -> None:
        self._over.set()
        self.join(20)

    def wait_until_answered_by(self, release: str) -> None:
        deadline = time.monotonic() + 20
        while not self.answered[release] and self.error is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_swap_under_persistent_clients_loses_nothing(spawn: Spawn, address: str) -> None:
    clients = [PersistentClient(address) for _ in range(3)]
    old = spawn()
    old.load(release=1)
    old.send(Accept())
    old.wait_for(Accepting)
    for client in clients:
        client.start()
        client.wait_until_answered_by("1")
    runners = [old]
    for release in (2, 3, 4):
        new = spawn()
        new.load(release=release)
        new.send(Accept())
        new.wait_for(Accepting)
        runners[-1].send(Drain(idle_seconds=10))
        assert runners[-1].wait_for(Drained).closed_idle == 0
        runners.append(new)
        for client in clients:
            client.wait_until_answered_by(str(release))
    for client in clients:
        client.stop()
    assert [client.error for client in clients] == [None, None, None]
    assert [runner.process.wait(10) for runner in runners[:-1]] == [0, 0, 0]
    answered_here = sum(sum(client.answered.values()) for client in clients)
    runners[-1].send(Drain(idle_seconds=0))
    told = [
        [said for said in runner.heard_to_the_end() if isinstance(said, Statistics)][-1] for runner in runners
    ]
    assert sum(said.requests for said in told) == answered_here
    assert sum(said.failures + said.refused for said in told) == 0


def test_an_idle_client_is_answered_once_more_and_told_to_close(
    serving: RunnerUnderTest, tcp: socket.socket
) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as idle:
        idle.sendall(HEALTH)
        assert b"Connection: close" not in idle.recv(1000)
        serving.send(Drain(idle_seconds=20))
        wait_until_nobody_accepts(tcp)
        idle.sendall(HEALTH)
        answer = idle.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close" in answer
        assert idle.recv(1000) == b""
    assert serving.wait_for(Drained).closed_idle == 0
    assert serving.process.wait(10) == 0


def test_a_client_that_stays_idle_is_cut_after_the_deadline_and_counted(
    serving: RunnerUnderTest, tcp: socket.socket
) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as idle:
        idle.sendall(HEALTH)
        idle.recv(1000)
        begun = time.monotonic()
        serving.send(Drain(idle_seconds=0.4))
        assert serving.wait_for(Drained).closed_idle == 1
        assert 0.35 < time.monotonic() - begun < 5
        assert idle.recv(1000) == b""


def test_a_request_that_is_half_sent_at_the_deadline_is_still_answered(
    serving: RunnerUnderTest, tcp: socket.socket
) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as slow:
        slow.sendall(HEALTH)
        slow.recv(1000)
        slow.sendall(HEALTH[:30])
        serving.send(Drain(idle_seconds=0.1))
        time.sleep(0.3)  # past the idle deadline, which has no event of its own
        slow.sendall(HEALTH[30:])
        assert slow.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert serving.wait_for(Drained).closed_idle == 0


def test_the_shared_socket_lives_on_after_its_runner(spawn: Spawn, address: str) -> None:
    for release in (1, 2):
        runner = spawn()
        runner.load(release=release)
        runner.send(Accept())
        runner.wait_for(Accepting)
        assert httpx.get(f"http://{address}/v2/models/tiny").json()["versions"] == [str(release)]
        runner.send(Drain(idle_seconds=5))
        runner.wait_for(Drained)
        assert runner.process.wait(10) == 0


def test_a_killed_runner_leaves_the_socket_to_its_successor(spawn: Spawn, address: str) -> None:
    first = spawn()
    first.load()
    first.send(Accept())
    first.wait_for(Accepting)
    first.process.kill()
    first.process.wait(10)
    second = spawn()
    second.load(release=2)
    second.send(Accept())
    second.wait_for(Accepting)
    assert httpx.get(f"http://{address}/v2/models/tiny").json()["versions"] == ["2"]


def wait_until_nobody_accepts(tcp: socket.socket) -> None:
    """A new connection stays in the listen queue, where this process's copy of the socket can take it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.create_connection(tcp.getsockname(), timeout=5):
            time.sleep(0.02)
            try:
                tcp.accept()[0].close()
            except BlockingIOError:
                continue
            return
    pytest.fail("the runner still accepts")


def test_pipelined_requests_that_had_arrived_are_all_answered_and_the_last_answer_says_close(
    serving: RunnerUnderTest, tcp: socket.socket
) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as pipelining:
        pipelining.sendall(HEALTH)
        pipelining.recv(1000)
        serving.send(Drain(idle_seconds=20))
        wait_until_nobody_accepts(tcp)
        pipelining.sendall(HEALTH * 5)
        said = b"".join(iter(lambda: pipelining.recv(4096), b""))
    answers = said.split(b"HTTP/1.1 200 OK")[1:]
    assert len(answers) == 5
    assert [b"Connection: close" in answer for answer in answers] == [False] * 4 + [True]
    assert serving.wait_for(Drained).closed_idle == 0


def test_a_request_half_of_which_came_with_the_one_before_is_answered_too(
    serving: RunnerUnderTest, tcp: socket.socket
) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as pipelining:
        pipelining.sendall(HEALTH)
        pipelining.recv(1000)
        serving.send(Drain(idle_seconds=20))
        wait_until_nobody_accepts(tcp)
        pipelining.sendall(HEALTH + HEALTH[:20])
        assert b"Connection: close" not in pipelining.recv(4096)
        pipelining.sendall(HEALTH[20:])
        said = b"".join(iter(lambda: pipelining.recv(4096), b""))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in said
    assert serving.wait_for(Drained).closed_idle == 0
