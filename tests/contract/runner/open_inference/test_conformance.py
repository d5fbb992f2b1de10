"""Every case with every client and every file format, against a real runner process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

from agent.protocol.manifest import Datatype
from agent.runner.backends import BYTES, DATATYPES, DTYPES, SUPPORT, available_runtimes
from tests.contract.runner import tiny_models as tiny
from tests.contract.runner import tiny_onnx, tiny_tflite
from tests.contract.runner.open_inference import memory_cases  # noqa: F401 (adds its cases to the table)
from tests.contract.runner.open_inference.cases import CASES, Case, refused
from tests.contract.runner.open_inference.clients import CLIENTS, Client
from tests.contract.runner.open_inference.conftest import connect, running

COPIES: dict[str, Callable[[str], bytes]] = {"onnx": tiny_onnx.copy, "tflite": tiny_tflite.copy}


@pytest.mark.parametrize("check", CASES.values(), ids=CASES)
def test_conformance(client: Client, check: Case) -> None:
    check(client)


def _supported(runtime: str) -> tuple[str, ...]:
    described = available_runtimes()[runtime]
    return SUPPORT[described.split()[0]].datatypes


def _values(datatype: str) -> np.ndarray:
    if datatype == BYTES:
        return np.array([[b"", b"ascii", "ä€".encode(), b" " * 300]], dtype=object)
    dtype = DTYPES[datatype]
    if dtype.kind == "b":
        return np.array([[True, False, False, True]])
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([[limits.min, limits.max, 1, 0]], dtype)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("runtime", sorted(COPIES))
def test_every_data_type_comes_back_as_it_went(
    tmp_path: Path, runtime: str, datatype: Datatype, subtests: pytest.Subtests
) -> None:
    if datatype not in _supported(runtime):
        pytest.skip(f"{runtime} has no {datatype}")
    values = _values(datatype)
    tensors = {"inputs": (tiny.spec("x", datatype, -1, 4),), "outputs": (tiny.spec("y", datatype, -1, 4),)}
    with running(tmp_path, content=COPIES[runtime](datatype), runtime=runtime, **tensors) as runner:
        for kind in CLIENTS:
            client = connect(kind, runner)
            for binary in (True, False):
                with subtests.test(client=kind, binary=binary):
                    _there_and_back(client, datatype, values, binary=binary)
            client.close()


def _there_and_back(client: Client, datatype: str, values: np.ndarray, *, binary: bool) -> None:
    # tritonclient sends and reads FP16 in binary alone, as Triton does.
    given = triton.InferInput("x", values.shape, datatype)
    given.set_data_from_numpy(values, binary_data=binary or datatype == "FP16")
    asked = [triton.InferRequestedOutput("y", binary_data=binary)]
    answer = client.infer("tiny", [given], outputs=asked).as_numpy("y")
    if datatype == BYTES and not binary:
        answer = np.array([text.encode() for text in answer.flat], dtype=object).reshape(answer.shape)
    np.testing.assert_array_equal(answer, values)
    assert answer.dtype == values.dtype


def test_bytes_that_are_no_text_travel_in_binary_alone(tmp_path: Path, subtests: pytest.Subtests) -> None:
    tensors = {"inputs": (tiny.spec("x", "BYTES", -1, 4),), "outputs": (tiny.spec("y", "BYTES", -1, 4),)}
    values = np.array([[b"\xff\x00", b"\x80", b"", b"a"]], dtype=object)
    given = triton.InferInput("x", values.shape, BYTES)
    given.set_data_from_numpy(values)
    with running(tmp_path, content=tiny_tflite.copy(BYTES), runtime="tflite", **tensors) as runner:
        for kind in CLIENTS:
            with subtests.test(client=kind):
                client = connect(kind, runner)
                np.testing.assert_array_equal(client.infer("tiny", [given]).as_numpy("y"), values)
                in_json = [triton.InferRequestedOutput("y", binary_data=False)]
                refused(400, "no UTF-8 text", client.infer, "tiny", [given], outputs=in_json)
                client.close()


def test_text_that_the_runtime_does_not_take_is_the_senders_fault(tmp_path: Path) -> None:
    tensors = {"inputs": (tiny.spec("x", "BYTES", -1, 4),), "outputs": (tiny.spec("y", "BYTES", -1, 4),)}
    given = triton.InferInput("x", (1, 4), BYTES)
    given.set_data_from_numpy(np.array([[b"\xff", b"", b"", b""]], dtype=object))
    with running(tmp_path, content=tiny_onnx.copy(BYTES), runtime="onnx", **tensors) as runner:
        client = connect("httpx-unix", runner)
        refused(400, "input 'x': element 0 is not UTF-8", client.infer, "tiny", [given])
        client.close()
        counted = runner.statistics_when(lambda seen: seen.refused > 0)
        assert (counted.requests, counted.failures, counted.refused) == (0, 0, 1)
