"""The unmodified tritonclient against a real runner, and raw bytes where a client would be too polite."""

import itertools
import json
import socket
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from onnx import TensorProto
from tritonclient.utils import InferenceServerException

from agent.protocol.runner import Accept, Accepting
from tests.contract.runner import tiny_models as tiny
from tests.integration.runner.runner_under_test import RunnerUnderTest

X = np.random.default_rng(5).uniform(-2, 2, (6, 4)).astype(np.float32)


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(address)
    yield client
    client.close()


def tensor(values: np.ndarray = X, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("x", values.shape, datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_health_and_metadata(serving: RunnerUnderTest, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert client.get_server_metadata()["name"] == "edgeward"
    metadata = client.get_model_metadata("tiny")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert metadata["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]


def test_infer_binary_and_json_both_ways(
    serving: RunnerUnderTest, client: triton.InferenceServerClient, subtests: pytest.Subtests
) -> None:
    for binary_in, binary_out in itertools.product((True, False), repeat=2):
        with subtests.test(binary_in=binary_in, binary_out=binary_out):
            asked = [triton.InferRequestedOutput("y", binary_data=binary_out)]
            answer = client.infer("tiny", [tensor(binary=binary_in)], outputs=asked, request_id="r-7")
            np.testing.assert_allclose(answer.as_numpy("y"), tiny.expected(X), rtol=1e-5)
            assert answer.get_response()["id"] == "r-7"
            assert answer.get_response()["model_version"] == "1"


def test_infer_by_version_and_without_named_outputs(
    serving: RunnerUnderTest, client: triton.InferenceServerClient
) -> None:
    answer = client.infer("tiny", [tensor()], model_version="1")
    np.testing.assert_allclose(answer.as_numpy("y"), tiny.expected(X), rtol=1e-5)


def test_async_infer(serving: RunnerUnderTest, client: triton.InferenceServerClient) -> None:
    waiting = [client.async_infer("tiny", [tensor(X[i : i + 1])]) for i in range(6)]
    answers = np.concatenate([each.get_result().as_numpy("y") for each in waiting])
    np.testing.assert_allclose(answers, tiny.expected(X), rtol=1e-5)


@pytest.mark.parametrize("quantized", [True, False])
def test_tflite_serves_the_same_contract(
    runner: RunnerUnderTest, client: triton.InferenceServerClient, *, quantized: bool
) -> None:
    loaded = runner.load(content=tiny.tflite_linear(quantized=quantized), runtime="tflite")
    assert loaded.backend.startswith(("ai-edge-litert ", "tflite-runtime "))
    runner.send(Accept())
    runner.wait_for(Accepting)
    answer = client.infer("tiny", [tensor()]).as_numpy("y")
    np.testing.assert_allclose(answer, tiny.expected(X), atol=0.1 if quantized else 1e-5)


@pytest.mark.parametrize(
    ("element", "datatype", "values"),
    [
        (TensorProto.INT64, "INT64", np.array([[1, -(2**62), 3, 4]], np.int64)),
        (TensorProto.UINT8, "UINT8", np.array([[0, 255, 3, 4]], np.uint8)),
        (TensorProto.DOUBLE, "FP64", np.array([[0.1, 1e200, 3, 4]], np.float64)),
        (TensorProto.FLOAT16, "FP16", np.array([[0.1, -2, 3, 4]], np.float16)),
        (TensorProto.BOOL, "BOOL", np.array([[True, False, False, True]])),
    ],
)
def test_every_kind_of_number_comes_back_as_it_went(
    runner: RunnerUnderTest,
    client: triton.InferenceServerClient,
    element: int,
    datatype: str,
    values: np.ndarray,
) -> None:
    runner.load(
        content=tiny.onnx_unary("Identity", element),
        inputs=(tiny.spec("x", datatype, -1, 4),),  # type: ignore[arg-type]  # parametrized
        outputs=(tiny.spec("y", datatype, -1, 4),),  # type: ignore[arg-type]  # parametrized
    )
    runner.send(Accept())
    runner.wait_for(Accepting)
    for binary in (True,) if datatype == "FP16" else (True, False):  # the client sends FP16 in binary only
        asked = [triton.InferRequestedOutput("y", binary_data=binary)]
        answer = client.infer("tiny", [tensor(values, datatype, binary=binary)], outputs=asked)
        np.testing.assert_array_equal(answer.as_numpy("y"), values)
        assert answer.as_numpy("y").dtype == values.dtype


@pytest.mark.parametrize(
    ("values", "datatype", "model", "status", "told"),
    [
        (np.zeros((2, 5), np.float32), "FP32", "tiny", "400", "input 'x': expected shape [-1, 4]"),
        (np.zeros((2, 4), np.float64), "FP64", "tiny", "400", "input 'x': expected datatype FP32, got FP64"),
        (
            np.zeros((2, 4), np.float32),
            "FP32",
            "other",
            "404",
            "model 'other' is unknown; this runner serves: tiny",
        ),
    ],
)
def test_errors_say_what_where_and_what_is_allowed(
    serving: RunnerUnderTest,
    client: triton.InferenceServerClient,
    values: np.ndarray,
    datatype: str,
    model: str,
    status: str,
    told: str,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor(values, datatype)])
    assert caught.value.status() == status
    assert told in caught.value.message()
    np.testing.assert_allclose(client.infer("tiny", [tensor()]).as_numpy("y"), tiny.expected(X), rtol=1e-5)


def test_a_missed_deadline_is_a_failure_and_a_refused_input_is_not(
    serving: RunnerUnderTest, client: triton.InferenceServerClient
) -> None:
    client.infer("tiny", [tensor()], timeout=5_000_000)
    with pytest.raises(InferenceServerException, match=r"deadline: .* 0\.001 ms were allowed") as caught:
        client.infer("tiny", [tensor()], timeout=1)
    assert caught.value.status() == "504"
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [tensor(np.zeros((1, 5), np.float32))])
    statistics = serving.statistics_when(lambda seen: seen.refused > 0)
    assert (statistics.requests, statistics.failures, statistics.refused) == (2, 1, 1)
    assert statistics.p99_ms is not None


def test_the_default_deadline_is_for_requests_that_carry_none(
    runner: RunnerUnderTest, client: triton.InferenceServerClient
) -> None:
    runner.load(default_deadline_ms=0.0001)
    runner.send(Accept())
    runner.wait_for(Accepting)
    with pytest.raises(InferenceServerException, match="deadline"):
        client.infer("tiny", [tensor()])
    client.infer("tiny", [tensor()], timeout=5_000_000)


def test_a_model_that_fails_or_answers_nan_counts_as_failed_unless_nan_was_sent(
    runner: RunnerUnderTest, client: triton.InferenceServerClient
) -> None:
    runner.load(content=tiny.onnx_unary("Log"), outputs=(tiny.spec("y", "FP32", -1, 4),))
    runner.send(Accept())
    runner.wait_for(Accepting)
    with pytest.raises(InferenceServerException, match="output 'y' holds NaN") as caught:
        client.infer("tiny", [tensor(np.full((1, 4), -1, np.float32))])
    assert caught.value.status() == "500"
    with pytest.raises(InferenceServerException, match="input 'x' holds NaN") as caught:
        client.infer("tiny", [tensor(np.full((1, 4), np.nan, np.float32))])
    assert caught.value.status() == "400"
    statistics = runner.statistics_when(lambda seen: seen.refused > 0)
    assert (statistics.requests, statistics.failures, statistics.refused) == (1, 1, 1)


def test_an_error_of_the_runtime_is_a_500_and_the_runner_goes_on(
    runner: RunnerUnderTest, client: triton.InferenceServerClient
) -> None:
    runner.load(
        content=tiny.onnx_gather(),
        inputs=(tiny.spec("x", "INT64", -1, 1),),
        outputs=(tiny.spec("y", "FP32", -1, 1),),
    )
    runner.send(Accept())
    runner.wait_for(Accepting)
    with pytest.raises(InferenceServerException, match="model tiny 1: ONNX Runtime") as caught:
        client.infer("tiny", [tensor(np.array([[9]], np.int64), "INT64")])
    assert caught.value.status() == "500"
    answer = client.infer("tiny", [tensor(np.array([[1]], np.int64), "INT64")])
    assert answer.as_numpy("y").tolist() == [[20.0]]


def test_the_private_unix_socket_answers_before_the_shared_one_is_accepted_on(
    runner: RunnerUnderTest, address: str
) -> None:
    runner.load()
    transport = httpx.HTTPTransport(uds=str(runner.private_path))
    with httpx.Client(transport=transport, base_url="http://private") as private:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": X[0].tolist()}]}
        answer = private.post("/v2/models/tiny/infer", json=body)
        assert answer.status_code == 200
        np.testing.assert_allclose(answer.json()["outputs"][0]["data"], tiny.expected(X[:1])[0], rtol=1e-5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"http://{address}/v2/health/ready", timeout=0.3)
    runner.send(Accept())
    runner.wait_for(Accepting)
    assert httpx.get(f"http://{address}/v2/health/ready").status_code == 200


HTTP_CASES: list[tuple[str, str, dict[str, str], int, str]] = [
    ("GET", "/v2/models/tiny/infer", {}, 405, "allowed: POST"),
    ("POST", "/v2", {}, 405, "allowed: GET"),
    ("GET", "/nothing", {}, 404, "path '/nothing' is not one of: /metrics, /v2"),
    ("GET", "/v2/models/tiny/versions/9", {}, 404, "has no version '9'; served: 1"),
    ("GET", "/v2", {"Host": "evil.example"}, 403, "header Host: 'evil.example' is not allowed"),
    ("GET", "/v2", {"Origin": "http://localhost"}, 403, "header Origin"),
    ("GET", "/v2", {"Host": "localhost:1"}, 200, "edgeward"),
    ("GET", "/v2/?a=b", {}, 200, "edgeward"),
    ("POST", "/v2/models/tiny/infer", {"Content-Encoding": "br"}, 415, "allowed: gzip, deflate, identity"),
    ("GET", "/v2", {"X-Long": "a" * 70_000}, 431, "at most 65536 bytes"),
]


def test_http_itself(serving: RunnerUnderTest, address: str, subtests: pytest.Subtests) -> None:
    for method, path, headers, status, told in HTTP_CASES:
        with subtests.test(method=method, path=path, headers=str(headers)[:40]):
            answer = httpx.request(method, f"http://{address}{path}", headers=headers)
            assert (answer.status_code, told in answer.text) == (status, True), answer.text


def test_a_body_over_the_maximum_is_refused_while_it_is_still_sent(
    runner: RunnerUnderTest, address: str
) -> None:
    runner.load(maximum_body_bytes=1000)
    runner.send(Accept())
    runner.wait_for(Accepting)
    url = f"http://{address}/v2/models/tiny/infer"

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 100

    for content in (b"x" * 1001, b"x" * 500_000, chunks()):
        answer = httpx.post(url, content=content)
        assert answer.status_code == 413
        assert "at most 1000 are allowed" in answer.json()["error"]
        assert answer.headers["connection"] == "close"
    assert httpx.post(url, content=b"x" * 1000).status_code == 400
    assert runner.statistics_when(lambda seen: seen.refused > 3).refused == 4


def test_garbage_gets_a_400_and_the_connection_ends(serving: RunnerUnderTest, tcp: socket.socket) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as raw:
        raw.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = read_to_end(raw)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert "not an HTTP/1.1 request" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_pipelined_requests_are_answered_in_order(serving: RunnerUnderTest, tcp: socket.socket) -> None:
    get = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    with socket.create_connection(tcp.getsockname(), timeout=5) as raw:
        whole = (
            get % (b"/v2", b"")
            + get % (b"/nothing", b"")
            + get % (b"/v2/health/live", b"Connection: close\r\n")
        )
        for at in range(0, len(whole), 7):
            raw.sendall(whole[at : at + 7])
        answer = read_to_end(raw)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_a_client_that_waits_for_100_continue_gets_it(serving: RunnerUnderTest, tcp: socket.socket) -> None:
    head = b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(tcp.getsockname(), timeout=5) as raw:
        raw.sendall(head)
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"{}")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_an_answer_leaves_in_one_piece(serving: RunnerUnderTest, tcp: socket.socket) -> None:
    with socket.create_connection(tcp.getsockname(), timeout=5) as raw:
        raw.sendall(b"GET /v2/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = raw.recv(65536).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["name"] == "tiny"


def read_to_end(raw: socket.socket) -> bytes:
    answer = b""
    while part := raw.recv(65536):
        answer += part
    return answer
