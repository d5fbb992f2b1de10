"""The table of cases: what every client must be able to do with every backend.

The model is always ``y = x · WEIGHT + BIAS``, named ``tiny``, version 1, labels a, b, c.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.contract.runner import tiny_models as tiny
from tests.contract.runner.open_inference.clients import Client

Case = Callable[[Client], None]
CASES: dict[str, Case] = {}

X = np.random.default_rng(5).uniform(-2, 2, (6, 4)).astype(np.float32)
Y = tiny.expected(X)


def close(answered: np.ndarray | None, expected: np.ndarray) -> None:
    assert answered is not None
    np.testing.assert_allclose(answered, expected, rtol=1e-5, atol=1e-6)


def case(check: Case) -> Case:
    CASES[check.__name__] = check
    return check


def tensor(values: np.ndarray = X, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput("x", values.shape, datatype)
    given.set_data_from_numpy(values, binary_data=binary)
    return given


def output(*, binary: bool = True, classes: int = 0) -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput("y", binary_data=binary, class_count=classes)


def refused(status: int, told: str, call: Callable[..., Any], *given: Any, **named: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        call(*given, **named)
    assert (caught.value.status(), told in caught.value.message()) == (str(status), True), caught.value


# The server.


@case
def health(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


@case
def server_metadata(client: Client) -> None:
    told = client.get_server_metadata()
    assert told["name"] == "edgeward"
    assert {"binary_tensor_data", "classification", "statistics", "system_shared_memory"} <= set(
        told["extensions"]
    )


@case
def model_readiness(client: Client) -> None:
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("other")


@case
def model_metadata(client: Client) -> None:
    for told in (client.get_model_metadata("tiny"), client.get_model_metadata("tiny", "1")):
        assert (told["name"], told["versions"]) == ("tiny", ["1"])
        assert told["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert told["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    refused(404, "model 'other' is unknown; this runner serves: tiny", client.get_model_metadata, "other")
    refused(404, "has no version '7'; served: 1", client.get_model_metadata, "tiny", "7")


@case
def model_config(client: Client) -> None:
    for told in (client.get_model_config("tiny"), client.get_model_config("tiny", "1")):
        assert (told["name"], told["max_batch_size"]) == ("tiny", 0)
        assert told["version_policy"] == {"specific": {"versions": [1]}}
        assert told["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 4]}]
        assert told["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 3]}]
        assert told["backend"]


@case
def statistics_count_what_was_done(client: Client) -> None:
    before = client.get_inference_statistics("tiny")["model_stats"][0]
    client.infer("tiny", [tensor()])
    client.infer("tiny", [tensor(X[:2])])
    for told in (
        client.get_inference_statistics("tiny"),
        client.get_inference_statistics("tiny", "1"),
        client.get_inference_statistics(),
    ):
        (after,) = told["model_stats"]
        assert (after["name"], after["version"]) == ("tiny", "1")
        assert after["inference_count"] - before["inference_count"] == 8
        assert after["execution_count"] - before["execution_count"] == 2
        assert after["last_inference"] > 1.7e12
        parts, earlier = after["inference_stats"], before["inference_stats"]
        assert parts["success"]["count"] - earlier["success"]["count"] == 2
        grown = {name: part["ns"] - earlier[name]["ns"] for name, part in parts.items()}
        assert grown["compute_infer"] > 0
        inner = sum(grown[name] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
        assert inner == pytest.approx(grown["success"], abs=10)


@case
def repository(client: Client) -> None:
    (entry,) = client.get_model_repository_index()
    assert (entry["name"], entry["version"], entry["state"]) == ("tiny", "1", "READY")
    refused(403, "the hub governs which release", client.load_model, "tiny")
    refused(403, "the hub governs which release", client.unload_model, "tiny")
    assert client.is_model_ready("tiny")


@case
def what_is_not_there_says_so(client: Client) -> None:
    refused(501, "tracing is not supported", client.get_trace_settings)
    refused(501, "tracing is not supported", client.get_trace_settings, "tiny")
    refused(501, "tracing is not supported", client.update_trace_settings, settings={"trace_rate": "1"})
    refused(501, "log settings are the agent's", client.get_log_settings)
    refused(501, "log settings are the agent's", client.update_log_settings, {"log_verbose_level": 1})


@case
def metrics(client: Client) -> None:
    client.infer("tiny", [tensor()])
    answer = client.send("GET", "metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if line[0] != "#")
    assert float(lines['edgeward_rows_total{model="tiny",version="1"}']) >= 6
    assert float(lines['edgeward_compute_infer_seconds_total{model="tiny",version="1"}']) > 0


# Inference.


def _forms(client: Client, *, binary_in: bool, binary_out: bool) -> None:
    answer = client.infer("tiny", [tensor(binary=binary_in)], outputs=[output(binary=binary_out)])
    close(answer.as_numpy("y"), Y)
    told = answer.get_output("y")
    assert ("data" in told, "parameters" in told) == (not binary_out, binary_out)
    assert (answer.get_response()["model_name"], answer.get_response()["model_version"]) == ("tiny", "1")


@case
def binary_in_binary_out(client: Client) -> None:
    _forms(client, binary_in=True, binary_out=True)


@case
def binary_in_json_out(client: Client) -> None:
    _forms(client, binary_in=True, binary_out=False)


@case
def json_in_binary_out(client: Client) -> None:
    _forms(client, binary_in=False, binary_out=True)


@case
def json_in_json_out(client: Client) -> None:
    _forms(client, binary_in=False, binary_out=False)


@case
def without_named_outputs_all_come_in_binary(client: Client) -> None:
    answer = client.infer("tiny", [tensor()], model_version="1")
    close(answer.as_numpy("y"), Y)
    assert answer.get_output("y")["parameters"]["binary_data_size"] == Y.size * 4


@case
def the_id_comes_back(client: Client) -> None:
    for request_id in ("r-7", "r-8", 'quotes " and \\', "umlaut ä", ""):
        for binary in (True, False):
            answer = client.infer("tiny", [tensor()], outputs=[output(binary=binary)], request_id=request_id)
            assert answer.get_response().get("id", "") == request_id
            close(answer.as_numpy("y"), Y)


@case
def many_at_once(client: Client) -> None:
    requests = [
        {"model_name": "tiny", "inputs": [tensor(X[row : row + 1])], "request_id": str(row)}
        for row in range(6)
    ]
    for row, answer in enumerate(client.at_once(requests)):
        assert answer.get_response()["id"] == str(row)
        close(answer.as_numpy("y"), Y[row : row + 1])


@case
def compressed_requests(client: Client) -> None:
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            answer = client.infer("tiny", [tensor(binary=binary)], request_compression_algorithm=algorithm)
            close(answer.as_numpy("y"), Y)


@case
def compressed_answers(client: Client) -> None:
    for algorithm in ("gzip", "deflate"):
        for binary in (True, False):
            answer = client.infer(
                "tiny",
                [tensor(np.repeat(X, 50, axis=0))],
                outputs=[output(binary=binary)],
                response_compression_algorithm=algorithm,
                request_compression_algorithm=algorithm,
            )
            close(answer.as_numpy("y"), np.repeat(Y, 50, axis=0))
    body, length = triton.InferenceServerClient.generate_request_body(
        [tensor()], outputs=[output(binary=False)]
    )
    headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": "gzip"}
    answer = client.send("POST", "v2/models/tiny/infer", body, headers)
    assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")
    assert answer.body[:2] == b"\x1f\x8b"


@case
def a_list_of_encodings_is_no_wish(client: Client) -> None:
    body, length = triton.InferenceServerClient.generate_request_body([tensor()])
    headers = {"Inference-Header-Content-Length": str(length), "Accept-Encoding": "gzip, deflate"}
    answer = client.send("POST", "v2/models/tiny/infer", body, headers)
    assert answer.status == 200
    assert "content-encoding" not in answer.headers


@case
def a_body_that_is_the_tensor(client: Client) -> None:
    answer = client.send(
        "POST", "v2/models/tiny/infer", X.tobytes(), {"Inference-Header-Content-Length": "0"}
    )
    assert answer.status == 200
    read = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    close(read.as_numpy("y"), Y)
    short = client.send(
        "POST", "v2/models/tiny/infer", X.tobytes()[:-4], {"Inference-Header-Content-Length": "0"}
    )
    assert (short.status, b"a multiple of 16 bytes" in short.body) == (400, True)


@case
def a_timeout_is_a_deadline(client: Client) -> None:
    client.infer("tiny", [tensor()], timeout=5_000_000)
    refused(504, "0.001 ms were allowed", client.infer, "tiny", [tensor()], timeout=1)
    refused(400, "parameter timeout: expected 0", client.infer, "tiny", [tensor()], timeout=-1)


@case
def classes_come_with_their_labels(client: Client) -> None:
    for binary in (True, False):
        answer = client.infer("tiny", [tensor()], outputs=[output(binary=binary, classes=2)])
        told = answer.as_numpy("y")
        assert (told.shape, answer.get_output("y")["datatype"]) == ((6, 2), "BYTES")
        for row, texts in enumerate(told):
            best = np.argsort(-Y[row], kind="stable")[:2]
            for index, text in zip(best, texts, strict=True):
                value, place, label = (text if isinstance(text, str) else text.decode()).split(":")
                assert (int(place), label) == (index, "abc"[index])
                assert float(value) == pytest.approx(Y[row, index], abs=2e-6)


@case
def custom_parameters_are_ignored(client: Client) -> None:
    answer = client.infer("tiny", [tensor()], parameters={"camera": "left", "gain": 3})
    close(answer.as_numpy("y"), Y)


@case
def wrong_requests_are_refused_and_the_next_is_served(client: Client) -> None:
    wrong = np.zeros((2, 5), np.float32)
    refused(400, "input 'x': expected shape [-1, 4]", client.infer, "tiny", [tensor(wrong)])
    doubles = np.zeros((2, 4), np.float64)
    refused(400, "expected datatype FP32, got FP64", client.infer, "tiny", [tensor(doubles, "FP64")])
    refused(404, "model 'other' is unknown", client.infer, "other", [tensor()])
    refused(404, "has no version '9'", client.infer, "tiny", [tensor()], model_version="9")
    unknown = [triton.InferRequestedOutput("z")]
    refused(
        400, "output 'z' is unknown; this model gives: y", client.infer, "tiny", [tensor()], outputs=unknown
    )
    close(client.infer("tiny", [tensor()]).as_numpy("y"), Y)
