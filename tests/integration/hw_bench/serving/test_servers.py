"""Our own servers and the floor: started, asked, stopped."""

import http.client
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from hw_bench.errors import AbsentError, MeasurementError, ServerError
from hw_bench.serving.clients import Clients
from hw_bench.serving.echo import EchoServer
from hw_bench.serving.edgeward import EdgewardServer
from hw_bench.serving.front import FrontServer
from hw_bench.serving.mlserver import MlServer
from hw_bench.serving.model import ServedModel, read_served
from hw_bench.serving.servers import Server
from hw_bench.serving.spawn import measure_starts
from hw_bench.serving.triton import TritonServer


@pytest.fixture
def model(student_folder: Path) -> ServedModel:
    return read_served(student_folder)["onnx"]


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("kind", [EchoServer, EdgewardServer])
def test_a_server_answers_every_client_and_ends(
    kind: Callable[[ServedModel], Server], model: ServedModel
) -> None:
    server = kind(model)
    server.start()
    try:
        pids = server.pids()
        assert pids
        with Clients(2, [model.route("r", server.address, server.how)]) as clients:
            sample = clients.burst("r", 2, 0.2)
        assert sample.requests > 0
        assert 0 < sample.p50_us <= sample.p95_us <= sample.p99_us
    finally:
        server.stop()
    assert gone(pids)
    assert server.pids() == []


def test_the_front_passes_requests_to_the_runner(model: ServedModel) -> None:
    runner = EdgewardServer(model)
    front = FrontServer(runner)
    runner.start()
    try:
        front.start()
        try:
            with Clients(1, [model.route("r", front.address, "json")]) as clients:
                assert clients.burst("r", 1, 0.2).requests > 0
        finally:
            front.stop()
    finally:
        runner.stop()


def test_statistics_and_drift_windows_of_the_runner_are_on(model: ServedModel) -> None:
    runner = EdgewardServer(model)
    runner.start()
    try:
        with Clients(1, [model.route("r", runner.address, "binary")]) as clients:
            answered = 0
            while answered < 400:  # the reference closes a window at 300 rows
                answered += clients.burst("r", 1, 0.3).requests
        deadline = time.monotonic() + 20
        while runner.statistics is None or runner.statistics.requests < 400:  # told once a second
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        runner.stop()
    assert runner.windows >= 1
    assert runner.statistics is not None
    assert runner.statistics.requests >= 400
    assert runner.statistics.failures == 0


def test_a_failed_request_ends_the_measurement(model: ServedModel) -> None:
    runner = EdgewardServer(model)
    runner.start()
    try:
        route = model.route("r", runner.address, "binary")
        wrong = msgspec.structs.replace(route, model="nobody")
        with pytest.raises(MeasurementError, match="nobody"), Clients(1, [wrong]):
            pass
        with Clients(1, [route]) as clients:
            runner.stop()
            with pytest.raises(MeasurementError, match="a client failed"):
                clients.burst("r", 1, 0.2)
    finally:
        runner.stop()


def test_a_refused_model_is_told_with_its_reason(model: ServedModel, tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    runner = EdgewardServer(msgspec.structs.replace(model, path=bad))
    with pytest.raises(ServerError, match="LoadFailed"):
        runner.start()
    assert runner.pids() == []


def test_the_first_answer_of_a_fresh_process(model: ServedModel) -> None:
    figure = measure_starts(model, 2)
    assert figure.value.rounds == 2
    assert figure.value.median > 1


def test_echo_answers_what_the_protocol_allows(model: ServedModel) -> None:
    server = EchoServer(model)
    server.start()
    try:
        connection = http.client.HTTPConnection(server.address, timeout=5)
        connection.request("POST", "/v2/models/digits/infer", b"{}")
        answer = connection.getresponse()
        length = int(answer.headers["Inference-Header-Content-Length"])
        body = answer.read()
        connection.close()
    finally:
        server.stop()
    described = msgspec.json.decode(body[:length])
    assert described["outputs"][0]["parameters"]["binary_data_size"] == len(body) - length == 40


@pytest.mark.parametrize("kind", [TritonServer, MlServer])
def test_a_peer_that_is_not_installed_is_absent(
    kind: Callable[[ServedModel, Path], Server], model: ServedModel, tmp_path: Path
) -> None:
    server = kind(model, tmp_path)
    with pytest.raises(AbsentError, match=r"python -m hw_bench peers --peers"):
        server.start()
    server.stop()
