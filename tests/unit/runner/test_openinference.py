import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest

from agent.protocol.manifest import Datatype
from agent.runner.backends import DTYPES
from agent.runner.errors import RequestError
from agent.runner.openinference import Contract, Decoder, InferRequest, Wanted, header_length
from agent.runner.responses import Encoder
from agent.runner.shared_memory import Regions
from tests.contract.runner import tiny_models as tiny

CONTRACT = Contract(
    [tiny.spec("x", "FP32", -1, 2), tiny.spec("mask", "BOOL", -1)],
    [tiny.spec("y", "FP32", -1, 3), tiny.spec("class", "INT64", -1)],
)
ONE = Contract([tiny.spec("x", "FP32", -1, 2)], [tiny.spec("y", "FP32", -1, 3)])
NO_MEMORY = Regions("off", maximum_bytes=1)


def decode(body: bytes, length: int | None, contract: Contract) -> InferRequest:
    return Decoder(contract, NO_MEMORY).decode(body, length)


def encode(
    request: InferRequest, outputs: Mapping[str, np.ndarray], contract: Contract = ONE
) -> tuple[list[bytes], int | None]:
    return Encoder("m", "4", contract, NO_MEMORY).encode(request, outputs)


def body(*inputs: Mapping[str, Any], **rest: object) -> bytes:
    return json.dumps({"inputs": inputs, **rest}).encode()


def x_json(data: object, shape: tuple[int, ...] = (1, 2), **rest: object) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": shape, "data": data, **rest}


def x_binary(size: int, shape: tuple[int, ...] = (1, 2), **rest: object) -> dict[str, Any]:
    return {
        "name": "x",
        "datatype": "FP32",
        "shape": shape,
        "parameters": {"binary_data_size": size},
        **rest,
    }


@pytest.mark.parametrize("data", [[1, 2.5, -3, 4], [[1, 2.5], [-3, 4]]])
def test_json_data_may_be_flat_or_nested(data: object) -> None:
    request = decode(body(x_json(data, (2, 2))), None, ONE)
    np.testing.assert_array_equal(request.inputs["x"], np.array([[1, 2.5], [-3, 4]], np.float32))
    assert request.inputs["x"].dtype == np.float32
    assert request.outputs == (Wanted("y", binary=False),)
    assert request.deadline_s is None


def test_binary_tensors_follow_the_json_in_its_order() -> None:
    x, mask = np.array([[1.5, -2.0], [3.0, 0.25]], np.float32), np.array([True, False])
    head = body(
        {"name": "mask", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}},
        x_binary(16, (2, 2)),
        id="a",
        parameters={"binary_data_output": True, "timeout": 250_000},
    )
    request = decode(head + mask.tobytes() + x.tobytes(), len(head), CONTRACT)
    np.testing.assert_array_equal(request.inputs["x"], x)
    np.testing.assert_array_equal(request.inputs["mask"], mask)
    assert request.outputs == (Wanted("y", binary=True), Wanted("class", binary=True))
    assert (request.id, request.deadline_s) == ("a", 0.25)


def test_binary_and_json_inputs_mix() -> None:
    head = body(x_binary(8), {"name": "mask", "datatype": "BOOL", "shape": [1], "data": [True]})
    request = decode(head + np.array([1, 2], np.float32).tobytes(), len(head), CONTRACT)
    assert request.inputs["mask"].tolist() == [True]


def test_data_at_an_odd_address_comes_aligned() -> None:
    for padding in range(4):
        head = body(x_binary(8), id="i" * padding)
        request = decode(head + np.array([1, 2], np.float32).tobytes(), len(head), ONE)
        assert request.inputs["x"].flags.aligned
        assert request.inputs["x"].tolist() == [[1, 2]]


def test_outputs_are_asked_for_by_name_and_form() -> None:
    asked = [{"name": "class"}, {"name": "y", "parameters": {"binary_data": True}}]
    head = body(
        x_json([1, 2]), {"name": "mask", "datatype": "BOOL", "shape": [1], "data": [False]}, outputs=asked
    )
    assert decode(head, None, CONTRACT).outputs == (
        Wanted("class", binary=False),
        Wanted("y", binary=True),
    )


def test_a_form_of_one_output_beats_the_requests_default() -> None:
    asked = [{"name": "y", "parameters": {"binary_data": False}}]
    head = body(x_json([1, 2]), outputs=asked, parameters={"binary_data_output": True})
    assert decode(head, None, ONE).outputs == (Wanted("y", binary=False),)


@pytest.mark.parametrize(
    ("request_body", "told"),
    [
        (b"", "request: "),
        (b"{", "request: "),
        (b"[" * 100_000, "request: "),
        (b'{"inputs": 5}', r"request: Expected `array`, got `int` - at `\$.inputs`"),
        (body(), "input 'x' is missing; this model takes: x"),
        (body(x_json([1, 2], name="z")), "input 'z' is unknown; this model takes: x"),
        (body(x_json([1, 2]), x_json([1, 2])), "input 'x' is given twice"),
        (body(x_json([1, 2], datatype="FP64")), "input 'x': expected datatype FP32, got FP64"),
        (
            body(x_json([1, 2, 3], (1, 3))),
            r"input 'x': expected shape \[-1, 2\] \(-1: any size from 1\), got \[1, 3\]",
        ),
        (body(x_json([1, 2], (2,))), r"input 'x': expected shape .* got \[2\]"),
        (body(x_json([], (0, 2))), r"got \[0, 2\]"),
        (body(x_json([], (-1, 2))), r"got \[-1, 2\]"),
        (body(x_json([], (2**62, 2))), "expected shape"),
        (body(x_json([1, 2, 3])), r"input 'x': expected data of shape \[1, 2\], flat or nested, got \[3\]"),
        (body(x_json([[1], [2]])), r"got \[2, 1\]"),
        (body(x_json([[1, 2], [3]])), "neither a flat list nor nested"),
        (body(x_json(["a", "b"])), "values that are not FP32"),
        (body(x_json([None, 1])), "values that are not FP32"),
        (body(x_json([True, False])), "values that are not FP32"),
        (body(x_json([{}, 1])), "values that are not FP32"),
        (body(x_json([1e300, 1])), "a value too large for FP32"),
        (body(x_json("ab")), "expected a list of values in 'data', got str"),
        (
            body({"name": "x", "datatype": "FP32", "shape": [1, 2]}),
            "expected one of 'data', the parameter binary_data_size, the parameter shared_memory_region",
        ),
        (body(x_binary(8, data=[1, 2])), "expected one of 'data', the parameter binary_data_size"),
        (body(x_binary(8)), "binary_data_size is 8, 0 bytes are left"),
        (body(x_binary(-8)), "binary_data_size is -8"),
        (body(x_json([1, 2], parameters={"shared_memory_region": "r"})), "expected one of 'data'"),
        (body(x_json([1, 2]), outputs=[{"name": "z"}]), "output 'z' is unknown; this model gives: y"),
        (body(x_json([1, 2]), outputs=[{"name": "y"}, {"name": "y"}]), "output 'y' is asked for twice"),
        (
            body(x_json([1, 2]), outputs=[{"name": "y", "parameters": {"classification": -1}}]),
            r"output 'y': classification: expected 0 \(off\) to 65536 classes, got -1",
        ),
        (body(x_json([1, 2]), parameters={"timeout": -1}), "parameter timeout: expected 0"),
        (body(x_json([1, 2]), parameters={"timeout": 10**12}), "parameter timeout: expected 0"),
    ],
)
def test_a_bad_request_is_told_what_where_and_what_is_allowed(request_body: bytes, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        decode(request_body, None, ONE)
    assert caught.value.status is HTTPStatus.BAD_REQUEST


def test_binary_lengths_must_agree_with_shape_body_and_header() -> None:
    data = np.array([1, 2], np.float32).tobytes()
    head = body(x_binary(4))
    with pytest.raises(RequestError, match=r"expected 8 bytes for FP32 of shape \[1, 2\], got 4"):
        decode(head + data[:4], len(head), ONE)
    head = body(x_binary(8))
    with pytest.raises(RequestError, match="3 bytes follow the last tensor's data"):
        decode(head + data + b"abc", len(head), ONE)
    for length in (-1, len(head) + 9):
        with pytest.raises(RequestError, match="Inference-Header-Content-Length: expected 0 to"):
            decode(head + data, length, ONE)


def test_inputs_must_agree_on_their_rows() -> None:
    request = body(x_json([1, 2]), {"name": "mask", "datatype": "BOOL", "shape": [2], "data": [True, True]})
    with pytest.raises(RequestError, match="same number of rows: 'x' has 1, 'mask' has 2"):
        decode(request, None, CONTRACT)


def test_a_bool_is_zero_or_one() -> None:
    contract = Contract([tiny.spec("x", "BOOL", -1)], ONE.outputs)
    head = body({"name": "x", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}})
    with pytest.raises(RequestError, match="0 or 1"):
        decode(head + b"\x01\x02", len(head), contract)


@pytest.mark.parametrize("datatype", ["INT8", "UINT8", "INT64", "UINT64"])
def test_whole_numbers_keep_their_range(datatype: Datatype) -> None:
    contract = Contract([tiny.spec("x", datatype, -1)], ONE.outputs)
    limits = np.iinfo(DTYPES[datatype])
    ends = [int(limits.min), int(limits.max)] if limits.min else [int(limits.max), int(limits.max)]
    ends_body = body({"name": "x", "datatype": datatype, "shape": [2], "data": ends})
    assert decode(ends_body, None, contract).inputs["x"].tolist() == ends
    for wrong in (int(limits.max) + 1, int(limits.min) - 1, 1.5, True, 2**80):
        wrong_body = body({"name": "x", "datatype": datatype, "shape": [1], "data": [wrong]})
        with pytest.raises(RequestError, match="input 'x'"):
            decode(wrong_body, None, contract)


def test_an_answer_carries_json_first_and_then_the_binary_tensors() -> None:
    request = decode(
        body(
            x_json([1, 2]),
            {"name": "mask", "datatype": "BOOL", "shape": [1], "data": [True]},
            id="q",
            outputs=[{"name": "y", "parameters": {"binary_data": True}}, {"name": "class"}],
        ),
        None,
        CONTRACT,
    )
    y = np.array([[1, 2, 3]], np.float32)
    parts, length = encode(request, {"y": y, "class": np.array([2], np.int64)}, CONTRACT)
    answer = b"".join(parts)
    assert length is not None
    assert json.loads(answer[:length]) == {
        "model_name": "m",
        "model_version": "4",
        "id": "q",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}},
            {"name": "class", "datatype": "INT64", "shape": [1], "data": [2]},
        ],
    }
    assert answer[length:] == y.tobytes()


def test_an_answer_without_binary_tensors_has_no_json_length() -> None:
    request = decode(body(x_json([1, 2])), None, ONE)
    parts, length = encode(request, {"y": np.zeros((1, 3), np.float32)})
    assert length is None
    assert "id" not in json.loads(b"".join(parts))


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"1.0", b"9" * 100])
def test_the_length_header_is_a_number(value: bytes) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        header_length(value)
    assert header_length(b"12") == 12
