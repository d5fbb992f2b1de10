"""Whatever a client sends, in whatever pieces: the same tensors, or a refusal in words."""

import asyncio
import contextlib
import itertools
import json
from typing import Any, get_args

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.protocol.manifest import Datatype
from agent.runner.backends import DTYPES, BackendError
from agent.runner.backends.onnx_file import check_onnx_file
from agent.runner.backends.tflite_file import check_tflite_file
from agent.runner.errors import RequestError
from agent.runner.openinference import Contract, Decoder, InferRequest, Wanted
from agent.runner.responses import Encoder
from agent.runner.shared_memory import Regions
from agent.web.connection import HttpConnection, Peer
from agent.web.messages import Answer, Request, json_answer
from tests.contract.runner import tiny_models as tiny

NO_MEMORY = Regions("off", maximum_bytes=1)
ONE = Contract([tiny.spec("x", "FP32", -1, 2)], [tiny.spec("y", "FP32", -1, 2)])

datatypes: st.SearchStrategy[Datatype] = st.sampled_from(get_args(Datatype)).filter(DTYPES.__contains__)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Datatype, np.ndarray]:
    datatype = draw(datatypes)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    return datatype, draw(hnp.arrays(DTYPES[datatype], shape))


@given(given_array=arrays(), request_id=st.text(max_size=20))
def test_binary_tensors_come_out_bit_for_bit(
    given_array: tuple[Datatype, np.ndarray], request_id: str
) -> None:
    datatype, array = given_array
    spec = tiny.spec("x", datatype, -1, *array.shape[1:])
    head = json.dumps(
        {
            "id": request_id,
            "inputs": [
                {
                    "name": "x",
                    "datatype": datatype,
                    "shape": array.shape,
                    "parameters": {"binary_data_size": array.nbytes},
                }
            ],
        }
    ).encode()
    decoder = Decoder(Contract([spec], [spec]), NO_MEMORY)
    decoder.decode(head + bytes(array.nbytes), len(head))  # now it knows this JSON
    request = decoder.decode(head + array.tobytes(), len(head))
    assert request.id == request_id
    assert request.inputs["x"].tobytes() == array.tobytes()
    assert request.inputs["x"].shape == array.shape


@given(array=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.floats(width=32)))
def test_an_answer_can_be_read_back_in_both_forms(array: np.ndarray) -> None:
    request = InferRequest("i", {}, (Wanted("binary", binary=True), Wanted("json", binary=False)), None)
    contract = Contract([], [tiny.spec(name, "FP32", -1) for name in ("binary", "json")])
    finite = np.nan_to_num(array)
    parts, length = Encoder("m", "1", contract, NO_MEMORY).encode(request, {"binary": array, "json": finite})
    answer = b"".join(parts)
    described = json.loads(answer[:length])["outputs"]
    assert answer[length:] == array.tobytes()
    assert described[0]["parameters"]["binary_data_size"] == array.nbytes
    np.testing.assert_array_equal(
        np.array(described[1]["data"], np.float32).reshape(described[1]["shape"]), finite
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
tensors_like = st.fixed_dictionaries(
    {"name": st.sampled_from(["x", "z"])},
    optional={
        "datatype": st.sampled_from(["FP32", "INT8", "BYTES"]) | json_values,
        "shape": st.lists(st.integers(-2, 5), max_size=3) | json_values,
        "data": json_values | st.lists(st.floats(width=32), max_size=6),
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-2, 40)})
        | json_values,
    },
)


@given(
    inputs=st.lists(tensors_like, max_size=3) | json_values,
    rest=json_values,
    tail=st.binary(max_size=40),
    cut=st.integers(-5, 300) | st.none(),
)
def test_a_request_is_decoded_or_refused_and_nothing_else(
    inputs: object, rest: object, tail: bytes, cut: int | None
) -> None:
    head = json.dumps({"inputs": inputs, "parameters": rest}).encode()
    for length in (len(head), cut):
        with contextlib.suppress(RequestError):
            request = Decoder(ONE, NO_MEMORY).decode(head + tail, length)
            assert request.inputs["x"].dtype == np.float32
            assert request.inputs["x"].shape[1:] == (2,)


@given(body=st.binary(max_size=200), length=st.none() | st.integers(-1, 210))
def test_bytes_are_decoded_or_refused(body: bytes, length: int | None) -> None:
    with contextlib.suppress(RequestError):
        Decoder(ONE, NO_MEMORY).decode(body, length)


@given(content=st.binary(max_size=300))
def test_files_of_any_bytes_are_passed_or_refused(content: bytes) -> None:
    for check in (check_onnx_file, check_tflite_file):
        with contextlib.suppress(BackendError):
            check(content)


LINEAR = tiny.onnx_linear()


@given(at=st.integers(0, len(LINEAR) - 1), byte=st.integers(0, 255))
def test_an_onnx_file_with_one_wrong_byte_is_passed_or_refused(at: int, byte: int) -> None:
    with contextlib.suppress(BackendError):
        check_onnx_file(LINEAR[:at] + bytes([byte]) + LINEAR[at + 1 :])


class Recorder:
    """A server that answers with what it was asked."""

    def __init__(self, maximum_body_bytes: int = 1000) -> None:
        self.maximum_body_bytes = maximum_body_bytes
        self.hosts = frozenset[str]()
        self.draining = False
        self.closing = False
        self.requests: list[Request] = []
        self.refused = 0

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return json_answer({"method": request.method.decode("latin-1")})

    def refuse(self) -> None:
        self.refused += 1

    def opened(self, connection: HttpConnection) -> None: ...

    def closed(self, connection: HttpConnection) -> None: ...


class Wire(asyncio.Transport):
    """Keeps what is written; nothing is sent anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.ended = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True


def talk(pieces: list[bytes], recorder: Recorder) -> Wire:
    async def feed() -> Wire:
        wire = Wire()
        connection = HttpConnection(recorder, Peer(over_tcp=False))
        connection.connection_made(wire)
        for piece in pieces:
            connection.data_received(piece)
        connection.connection_lost(None)
        return wire

    return asyncio.run(feed())


def pieces_of(stream: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    return [stream[low:high] for low, high in itertools.pairwise(ends) if high > low]


@settings(max_examples=60)
@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=4),
    chunked=st.booleans(),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
def test_a_stream_means_the_same_however_it_is_cut(
    bodies: list[bytes],
    cuts: list[int],
    *,
    chunked: bool,
) -> None:
    stream = b"".join(_post(body, chunked=chunked) for body in bodies)
    recorder = Recorder()
    wire = talk(pieces_of(stream, cuts), recorder)
    assert [(request.method, request.path, request.body) for request in recorder.requests] == [
        (b"POST", b"/v2/models/m/infer", body) for body in bodies
    ]
    assert all(answer.startswith(b"HTTP/1.1 200 OK\r\n") for answer in wire.written)
    assert len(wire.written) == len(bodies)
    assert recorder.refused == 0


def _post(body: bytes, *, chunked: bool) -> bytes:
    head = b"POST /v2/models/m/infer?q=1 HTTP/1.1\r\nHost: localhost\r\n"
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    halves = [half for half in (body[: len(body) // 2], body[len(body) // 2 :]) if half]
    return (
        head
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves)
        + b"0\r\n\r\n"
    )


@settings(max_examples=60)
@given(stream=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_noise_is_refused_at_most_once_and_never_raises(stream: bytes, cuts: list[int]) -> None:
    recorder = Recorder()
    wire = talk(pieces_of(stream, cuts), recorder)
    assert recorder.refused <= 1
    if recorder.refused:
        assert wire.written[-1].startswith(b"HTTP/1.1 4")
        assert wire.ended


@settings(max_examples=40)
@given(size=st.integers(1001, 5000), chunked=st.booleans(), cuts=st.lists(st.integers(0, 5200), max_size=8))
def test_a_body_over_the_maximum_is_refused_once_however_it_comes(
    size: int,
    cuts: list[int],
    *,
    chunked: bool,
) -> None:
    recorder = Recorder()
    wire = talk(pieces_of(_post(b"x" * size, chunked=chunked), cuts), recorder)
    assert (recorder.requests, recorder.refused) == ([], 1)
    assert wire.written[-1].startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in wire.written[-1]
