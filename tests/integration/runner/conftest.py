import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.protocol.runner import Accept, Accepting
from tests.integration.runner.runner_under_test import RunnerUnderTest

Spawn = Callable[[], RunnerUnderTest]


@pytest.fixture
def tcp() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.setblocking(False)
        yield listener


@pytest.fixture
def address(tcp: socket.socket) -> str:
    host, port = tcp.getsockname()
    return f"{host}:{port}"


@pytest.fixture
def spawn(tmp_path: Path, tcp: socket.socket) -> Iterator[Spawn]:
    started: list[RunnerUnderTest] = []

    def start() -> RunnerUnderTest:
        started.append(RunnerUnderTest(tmp_path, tcp, f"{len(started)}.sock"))
        return started[-1]

    yield start
    for runner in started:
        runner.end()


@pytest.fixture
def runner(spawn: Spawn) -> RunnerUnderTest:
    return spawn()


@pytest.fixture
def serving(runner: RunnerUnderTest) -> RunnerUnderTest:
    """The linear ONNX model, accepting on TCP."""
    runner.load()
    runner.send(Accept())
    runner.wait_for(Accepting)
    return runner
