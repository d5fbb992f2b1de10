import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from agent.protocol.runner import Accept, Accepting
from tests.contract.runner import tiny_models as tiny
from tests.contract.runner.open_inference.clients import CLIENTS, Client
from tests.integration.runner.runner_under_test import RunnerUnderTest

LINEAR: dict[str, Callable[[], bytes]] = {"onnx": tiny.onnx_linear, "tflite": tiny.tflite_linear}


@pytest.fixture(scope="module", autouse=True)
def no_resource_tracker_stays() -> Iterator[None]:
    """tritonclient's shared memory starts a helper process, and other suites look for children that were left behind."""
    yield
    tracker: Any = resource_tracker._resource_tracker
    tracker._stop()


@contextmanager
def running(folder: Path, **start: object) -> Iterator[RunnerUnderTest]:
    """A runner process that accepts on TCP and on its Unix socket."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen(128)
        tcp.setblocking(False)
        runner = RunnerUnderTest(folder, tcp, "r.sock")
        try:
            runner.load(**start)
            runner.send(Accept())
            runner.wait_for(Accepting)
            yield runner
        finally:
            runner.end()


def connect(kind: str, runner: RunnerUnderTest) -> Client:
    host, port = runner.tcp.getsockname()
    client: Client = CLIENTS[kind](f"{host}:{port}", runner.private_path)
    return client


@pytest.fixture(scope="module", params=sorted(LINEAR))
def linear(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunnerUnderTest]:
    """The linear model in each file format, with shared memory for everyone."""
    start = {"content": LINEAR[request.param](), "runtime": request.param, "shared_memory": "unix+tcp"}
    with running(tmp_path_factory.mktemp(request.param), **start) as runner:
        yield runner


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest, linear: RunnerUnderTest) -> Iterator[Client]:
    client = connect(request.param, linear)
    yield client
    client.close()
