"""Limits, and errors in the field's terms."""

import subprocess
import sys
from typing import Any

import pytest

from agent.protocol.codec import (
    HEADER_BYTES,
    FrameDecoder,
    decode_json,
    decode_msgpack,
    encode_json,
    encode_msgpack,
    frame,
)
from agent.protocol.errors import MalformedMessageError, MessageTooLargeError
from agent.protocol.limits import BLOCK_BYTES, MAX_DIRECTOR_BYTES, MAX_FRAME_BYTES, MAX_MESSAGE_BYTES
from agent.protocol.runner import Accept, Drain, FromRunner, Loaded, ToRunner
from agent.protocol.state import Command, DesiredState, Presence
from agent.protocol.telemetry import TelemetryBatch
from agent.protocol.transfer import Block, BlockRequest, TransferResponse


def batch_with(body: dict[str, Any]) -> dict[str, Any]:
    return {"device": "camera-1", "epoch": "e1", "records": [{"sequence": 1, "body": body}]}


def test_a_message_at_the_limit_passes_and_one_byte_more_does_not() -> None:
    presence = Presence(online=True, boot="b")
    size = len(encode_json(presence))
    assert decode_json(encode_json(presence, limit=size), Presence, limit=size) == presence
    with pytest.raises(MessageTooLargeError, match=f"Presence: {size} bytes, at most {size - 1} are allowed"):
        encode_json(presence, limit=size - 1)
    with pytest.raises(MessageTooLargeError, match=f"Presence: {size} bytes, at most {size - 1} are allowed"):
        decode_json(encode_json(presence), Presence, limit=size - 1)


def test_the_one_limit_is_the_default() -> None:
    with pytest.raises(MessageTooLargeError, match=f"at most {MAX_MESSAGE_BYTES} are allowed"):
        encode_json(Presence(online=True, boot="b" * MAX_MESSAGE_BYTES))
    with pytest.raises(MessageTooLargeError, match=f"at most {MAX_MESSAGE_BYTES} are allowed"):
        encode_msgpack(Presence(online=True, boot="b" * MAX_MESSAGE_BYTES))
    with pytest.raises(MessageTooLargeError):
        decode_msgpack(b"\x00" * (MAX_MESSAGE_BYTES + 1), Presence)


def test_the_longest_director_and_the_longest_block_fit_into_a_message() -> None:
    encode_json(DesiredState(device="d" * 64, director='"' * MAX_DIRECTOR_BYTES))
    block = Block(id=2**53, offset=2**53, total=2**53, data=b"\xff" * BLOCK_BYTES)
    assert decode_msgpack(encode_msgpack(block), TransferResponse) == block


@pytest.mark.parametrize(
    ("payload", "kind", "said"),
    [
        (b"{", Presence, ["Presence: ", "truncated"]),
        (b"\xff\xfe", Presence, ["Presence: "]),
        (b"null", Presence, ["Presence: ", "object", "null"]),
        (b'{"online":true}', Presence, ["Presence: ", "required field `boot`"]),
        (b'{"online":1,"boot":"b"}', Presence, ["Presence: ", "`bool`", "`int`", "$.online"]),
        (b'{"v":2,"online":true,"boot":"b"}', Presence, ["Presence: ", "2", "$.v"]),
        (b'{"command":"reboot"}', Command, ["Command: ", "'reboot'", "$.command"]),
        (b'{"device":"Cam","director":""}', DesiredState, ["DesiredState: ", "matching regex", "$.device"]),
        (b'{"device":"cam\\n","director":""}', DesiredState, ["DesiredState: ", "$.device"]),
    ],
)
def test_a_bad_payload_is_refused_in_the_fields_terms(payload: bytes, kind: type, said: list[str]) -> None:
    with pytest.raises(MalformedMessageError) as refusal:
        decode_json(payload, kind)
    for part in said:
        assert part in str(refusal.value)


def test_deep_nesting_is_malformed_not_a_crash() -> None:
    with pytest.raises(MalformedMessageError):
        decode_json(b'{"online":true,"boot":"b","more":' + b"[" * 100_000, Presence)
    with pytest.raises(MalformedMessageError):
        decode_msgpack(b"\x91" * 100_000, BlockRequest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"records": []}, "$.records"),
        ({"records": [{"sequence": 0, "body": {}}]}, "$.records[0].sequence"),
        (batch_with({"type": "selfie"}), "selfie"),
        (batch_with({"type": "event", "time": -1}), "$.records[0].body.time"),
        (
            batch_with({"type": "event", "time": 1, "severity": "bad", "kind": "k", "text": "t"}),
            "$.records[0].body.severity",
        ),
        ({"epoch": ""}, "$.epoch"),
    ],
)
def test_a_bad_record_is_found_by_its_path(change: dict[str, Any], said: str) -> None:
    import msgspec

    good = batch_with({"type": "event", "time": 1, "severity": "info", "kind": "k", "text": "t"})
    decode_json(msgspec.json.encode(good), TelemetryBatch)
    with pytest.raises(MalformedMessageError) as refusal:
        decode_json(msgspec.json.encode(good | change), TelemetryBatch)
    assert said in str(refusal.value)


def test_a_field_of_a_newer_program_is_ignored_in_state_messages() -> None:
    assert decode_json(b'{"v":1,"online":true,"boot":"b","later":1}', Presence) == Presence(
        online=True, boot="b"
    )


def test_frames_come_out_as_they_went_in() -> None:
    decoder = FrameDecoder()
    payloads = decoder.feed(frame(Accept()) + frame(Drain(idle_seconds=1.0)))
    assert [decode_msgpack(each, ToRunner) for each in payloads] == [Accept(), Drain(idle_seconds=1.0)]
    assert decoder.feed(b"") == []


def test_a_frame_over_the_limit_is_refused_at_its_header() -> None:
    decoder = FrameDecoder(limit=10)
    assert decoder.feed((10).to_bytes(HEADER_BYTES, "big") + b"x" * 10) == [b"x" * 10]
    with pytest.raises(MessageTooLargeError, match="frame: 11 bytes announced, at most 10 are allowed"):
        decoder.feed((11).to_bytes(HEADER_BYTES, "big"))


def test_a_message_too_large_for_a_frame_is_never_framed() -> None:
    with pytest.raises(MessageTooLargeError, match=f"Loaded: .* at most {MAX_FRAME_BYTES}"):
        frame(Loaded(backend="b" * MAX_FRAME_BYTES, load_ms=1.0))


def test_an_unknown_tag_is_malformed() -> None:
    with pytest.raises(MalformedMessageError, match="'start'"):
        decode_msgpack(encode_msgpack({"type": "start"}), FromRunner)


def test_threads_may_decode_what_was_described() -> None:
    """Without it, this ends with SIGSEGV in a round or in some hundred (``bare`` in place of ``described``)."""
    command = [sys.executable, "-m", "tests.unit.protocol.struct_race", "60", "described"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
