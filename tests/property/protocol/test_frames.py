"""Bytes from a socket come in any pieces and may be anything."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocol.codec import FrameDecoder, decode_json, decode_msgpack, frame
from agent.protocol.control import ControlRequest
from agent.protocol.errors import MessageTooLargeError, ProtocolError
from agent.protocol.manifest import decode_manifest
from agent.protocol.runner import Drain, FromRunner, ToRunner
from agent.protocol.state import DesiredState, ReportedState
from agent.protocol.telemetry import TelemetryAck, TelemetryBatch
from agent.protocol.topics import parse_topic
from agent.protocol.transfer import BlockRequest, TransferResponse
from agent.protocol.verification import FromVerifier, ToVerifier
from tests.contract.protocol.samples import SAMPLES, Sample

JSON_KINDS = (DesiredState, ReportedState, TelemetryBatch, TelemetryAck, ControlRequest)
MSGPACK_KINDS = (BlockRequest, TransferResponse, ToRunner, FromRunner, ToVerifier, FromVerifier)

payloads = st.lists(st.binary(max_size=40), max_size=8)


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload


@given(payloads, st.data())
def test_any_chunking_gives_the_same_frames(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(framed(payload) for payload in frames)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    decoder = FrameDecoder()
    received: list[bytes] = []
    for start, end in pairwise(sorted({0, len(stream), *cuts})):
        received += decoder.feed(stream[start:end])
    assert received == frames


@given(st.floats(allow_nan=False), st.integers(1, 12))
def test_a_framed_message_comes_back_byte_by_byte(seconds: float, step: int) -> None:
    stream = frame(Drain(idle_seconds=seconds))
    decoder = FrameDecoder()
    received = [each for at in range(0, len(stream), step) for each in decoder.feed(stream[at : at + step])]
    assert [decode_msgpack(each, ToRunner) for each in received] == [Drain(idle_seconds=seconds)]


@given(st.lists(st.binary(max_size=64), max_size=10), st.integers(0, 64))
def test_garbage_is_frames_within_the_limit_or_too_large(chunks: list[bytes], limit: int) -> None:
    decoder = FrameDecoder(limit)
    try:
        received = [each for chunk in chunks for each in decoder.feed(chunk)]
    except MessageTooLargeError:
        return
    assert all(len(each) <= limit for each in received)
    assert len(decoder._buffer) < 4 + limit + 1


@given(st.binary(max_size=300), st.sampled_from(JSON_KINDS))
def test_garbage_is_never_anything_but_a_protocol_error_as_json(data: bytes, kind: type) -> None:
    with pytest.raises(ProtocolError):
        decode_json(data, kind)


@given(st.binary(max_size=300), st.sampled_from(MSGPACK_KINDS))
def test_garbage_is_never_anything_but_a_protocol_error_as_msgpack(data: bytes, kind: object) -> None:
    with pytest.raises(ProtocolError):
        decode_msgpack(data, kind)


@given(st.binary(max_size=300))
def test_garbage_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_manifest(data)


@given(st.text(max_size=80))
def test_no_text_is_a_topic_by_chance(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_topic(text)


@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_message_is_a_message_or_a_protocol_error(sample: Sample, data: st.DataObject) -> None:
    golden = sample.path.read_bytes().strip()
    wire = bytearray(golden if sample.format == "json" else bytes.fromhex(golden.decode()))
    for _ in range(data.draw(st.integers(1, 3))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    del wire[data.draw(st.integers(1, len(wire))) :]
    decode = decode_json if sample.format == "json" else decode_msgpack
    try:
        message = decode(bytes(wire), sample.kind)
    except ProtocolError:
        return
    assert type(message).__module__ == type(sample.message).__module__
