"""Parsers of the Open Inference Protocol: whatever comes is understood exactly, or refused in words."""

import contextlib
import json
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.runner.backends import DTYPES
from agent.runner.classification import classify
from agent.runner.compression import compress, inflate, wanted_encoding
from agent.runner.errors import RequestError
from agent.runner.openinference import Contract, Decoder, InferRequest, Wanted, raw_shape
from agent.runner.responses import Encoder
from agent.runner.shared_memory import Regions
from tests.contract.runner import tiny_models as tiny

NO_MEMORY = Regions("off", maximum_bytes=1)
TEXTS = Contract([tiny.spec("x", "BYTES", -1, 2)], [tiny.spec("y", "BYTES", -1, 2)])
NUMBERS = Contract([tiny.spec("x", "FP32", -1, 2)], [tiny.spec("y", "FP32", -1, 2)])

pairs = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), min_size=1, max_size=5)


def head(shape: tuple[int, ...], size: int, datatype: str = "BYTES", **rest: object) -> bytes:
    tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    return json.dumps({**rest, "inputs": [tensor]}).encode()


def packed(values: np.ndarray) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values.flat)


def objects(rows: list[tuple[Any, ...]]) -> np.ndarray:
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for index, row in enumerate(rows):
        array[index] = row
    return array


@given(rows=pairs)
def test_bytes_in_binary_come_out_as_they_went(rows: list[tuple[bytes, bytes]]) -> None:
    values = objects(rows)
    data = packed(values)
    told = head(values.shape, len(data))
    request = Decoder(TEXTS, NO_MEMORY).decode(told + data, len(told))
    np.testing.assert_array_equal(request.inputs["x"], values)
    asked = InferRequest("", {}, (Wanted("y", binary=True),), None)
    parts, length = Encoder("m", "1", TEXTS, NO_MEMORY).encode(asked, {"y": values})
    assert length == len(parts[0])
    assert parts[1:] == [data]


@given(
    rows=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), min_size=1, max_size=5),
    flat=st.booleans(),
)
def test_bytes_in_json_come_out_as_they_went(rows: list[tuple[str, str]], *, flat: bool) -> None:
    data: list[Any] = [text for row in rows for text in row] if flat else [list(row) for row in rows]
    tensor = {"name": "x", "datatype": "BYTES", "shape": [len(rows), 2], "data": data}
    values = objects([tuple(text.encode() for text in row) for row in rows])
    request = Decoder(TEXTS, NO_MEMORY).decode(json.dumps({"inputs": [tensor]}).encode(), None)
    np.testing.assert_array_equal(request.inputs["x"], values)
    asked = InferRequest("", {}, (Wanted("y", binary=False),), None)
    parts, length = Encoder("m", "1", TEXTS, NO_MEMORY).encode(asked, {"y": values})
    assert length is None
    assert json.loads(parts[0])["outputs"][0]["data"] == [text for row in rows for text in row]


@given(data=st.binary(max_size=60), rows=st.integers(1, 2**40))
def test_any_bytes_are_a_bytes_tensor_or_refused(data: bytes, rows: int) -> None:
    told = head((rows, 2), len(data))
    with contextlib.suppress(RequestError):
        values = Decoder(TEXTS, NO_MEMORY).decode(told + data, len(told)).inputs["x"]
        assert packed(values) == data
        assert values.shape == (rows, 2)


@given(
    shape=st.lists(st.sampled_from([-1, 1, 2, 3]), min_size=1, max_size=4),
    datatype=st.sampled_from(sorted(DTYPES)),
    size=st.integers(0, 600),
)
def test_a_raw_body_has_one_shape_or_is_refused(shape: list[int], datatype: Any, size: int) -> None:
    spec = tiny.spec("x", datatype, *shape)
    try:
        found = raw_shape(spec, size)
    except RequestError:
        return
    assert math.prod(found) * DTYPES[datatype].itemsize == size
    assert all(want in {-1, got} and got > 0 for want, got in zip(shape, found, strict=True))


@given(values=hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2))))
def test_a_raw_body_is_the_tensor(values: np.ndarray) -> None:
    request = Decoder(NUMBERS, NO_MEMORY).decode(values.tobytes(), 0)
    assert request.inputs["x"].tobytes() == values.tobytes()
    assert request.inputs["x"].shape == values.shape
    assert request.outputs == (Wanted("y", binary=True),)


def test_a_raw_body_of_bytes_is_one_element() -> None:
    contract = Contract([tiny.spec("x", "BYTES", -1, 1)], TEXTS.outputs)
    for body in (b"\xff\xd8 a picture", b""):
        values = Decoder(contract, NO_MEMORY).decode(body, 0).inputs["x"]
        assert values.tolist() == [[body]]
    with pytest.raises(RequestError, match=r"a body is one BYTES element, the shape is \[-1, 2\]"):
        Decoder(TEXTS, NO_MEMORY).decode(b"a", 0)


ids = st.one_of(st.text(max_size=8), st.sampled_from(['a","id":"b', "\\", '"', "\u0000", "ä", "x" * 200]))


@given(requests=st.lists(st.tuples(ids, st.integers(1, 3), st.booleans()), min_size=2, max_size=6))
def test_a_decoder_that_has_seen_much_understands_the_same(requests: list[tuple[str, int, bool]]) -> None:
    seasoned = Decoder(NUMBERS, NO_MEMORY)
    for request_id, rows, first in requests:
        values = np.full((rows, 2), len(request_id), np.float32)
        inputs = [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [rows, 2],
                "parameters": {"binary_data_size": rows * 8},
            }
        ]
        told = {"id": request_id, "inputs": inputs} if first else {"inputs": inputs, "id": request_id}
        body = json.dumps(told, ensure_ascii=rows > 1).encode()
        fresh = Decoder(NUMBERS, NO_MEMORY).decode(body + values.tobytes(), len(body))
        known = seasoned.decode(body + values.tobytes(), len(body))
        assert known.id == fresh.id == request_id
        assert (known.outputs, known.deadline_s) == (fresh.outputs, fresh.deadline_s)
        np.testing.assert_array_equal(known.inputs["x"], values)


def test_an_id_written_twice_is_understood_the_same_the_second_time() -> None:
    decoder = Decoder(NUMBERS, NO_MEMORY)
    tail = b',"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]'
    for again in (b',"id":"b"}', b',"\\u0069d":"b"}', b',"id":"a"}', b',"\\u0069d":"a"}'):
        for first in (b"a", b"b", b"c"):
            body = b'{"id":"' + first + b'"' + tail + again
            fresh = Decoder(NUMBERS, NO_MEMORY).decode(body + bytes(8), len(body))
            assert decoder.decode(body + bytes(8), len(body)).id == fresh.id == json.loads(body)["id"]


@given(plain=st.binary(max_size=300), encoding=st.sampled_from([b"gzip", b"deflate"]), cut=st.integers(1, 10))
def test_compression_is_undone_exactly_or_refused(plain: bytes, encoding: bytes, cut: int) -> None:
    small = b"".join(compress([plain[:7], plain[7:]], encoding))
    assert inflate(small, encoding, len(plain)) == plain
    with pytest.raises(RequestError):
        inflate(small[:-cut], encoding, len(plain))
    if plain:
        with pytest.raises(RequestError, match="at most"):
            inflate(small, encoding, len(plain) - 1)


@given(
    body=st.binary(max_size=100),
    encoding=st.sampled_from([b"gzip", b"deflate", b"br", b""]) | st.binary(max_size=9),
)
def test_any_body_and_encoding_is_inflated_within_the_limit_or_refused(body: bytes, encoding: bytes) -> None:
    assume(encoding.strip().lower() != b"identity")
    with contextlib.suppress(RequestError):
        assert len(inflate(body, encoding, 50)) <= 50
    assert wanted_encoding(encoding) in {None, b"gzip", b"x-gzip", b"deflate"}


kinds: st.SearchStrategy[np.dtype[Any]] = st.sampled_from(
    [np.dtype(np.float32), np.dtype(np.int8), np.dtype(np.uint16)]
)


@given(
    values=hnp.arrays(
        kinds,
        st.tuples(st.integers(1, 4), st.integers(1, 6)),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    count=st.integers(1, 8),
)
def test_classes_are_those_of_a_stable_sort(values: np.ndarray, count: int) -> None:
    told = classify(values, count, batched=True, labels=())
    for row, texts in zip(values.tolist(), told, strict=True):
        best = sorted(range(len(row)), key=lambda index: (-row[index], index))[:count]
        assert [int(text.split(b":")[1]) for text in texts] == best
