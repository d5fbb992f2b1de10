"""Telemetry batches arrive from devices that may be broken or hostile."""

import tracemalloc
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.protocol.batch_codec import DEFLATE_OVER, ReceivedBatch, decode_envelope, encode_batch
from agent.protocol.errors import MalformedMessageError, MessageTooLargeError, ProtocolError
from agent.protocol.limits import MAX_BATCH_RECORDS, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES
from agent.protocol.telemetry import Event, Record, TelemetryBatch

MIB = 1024 * 1024

events = st.builds(
    Event,
    time=st.floats(0, 4e9),
    severity=st.sampled_from(["info", "warning", "error"]),
    kind=st.just("test"),
    text=st.text(max_size=300),
    release=st.none() | st.integers(1, 9),
)
batches = st.lists(
    st.builds(Record, sequence=st.integers(1, 2**63 - 1), body=events), min_size=1, max_size=12
).map(lambda records: TelemetryBatch(device="camera-1", epoch="e1", records=tuple(records)))


def plain(*records: Any, **other: Any) -> dict[str, Any]:
    """A batch as anyone may write it."""
    return {"v": 1, "device": "camera-1", "epoch": "e1", "records": records, **other}


def event(sequence: object = 1, **other: object) -> dict[str, Any]:
    body = {"type": "event", "time": 1.0, "severity": "info", "kind": "test", "text": "held"}
    return {"sequence": sequence, "body": body | other}


def encoded(batch: Any) -> bytes:
    return msgspec.msgpack.encode(batch)


def read(payload: bytes) -> ReceivedBatch:
    """With the memory that it may take, whatever comes."""
    tracemalloc.start()
    try:
        return decode_envelope(payload)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * MIB


@given(batches)
def test_a_batch_comes_back_and_is_never_longer_than_it_is_plain(batch: TelemetryBatch) -> None:
    payload = encode_batch(batch)
    received = decode_envelope(payload)
    assert (received.device, received.epoch) == (batch.device, batch.epoch)
    assert received.records == batch.records
    assert (received.refused, received.nameless) == ({}, 0)
    assert len(payload) <= len(encoded(batch))


def test_only_what_is_worth_it_is_deflated() -> None:
    body = Event(time=1.0, severity="info", kind="test", text="x" * 600)
    small = TelemetryBatch(device="camera-1", epoch="e1", records=(Record(sequence=1, body=body),))
    assert encode_batch(small) == encoded(small)
    large = msgspec.structs.replace(
        small, records=(Record(sequence=1, body=body), Record(sequence=2, body=body))
    )
    assert len(encoded(large)) > DEFLATE_OVER
    assert len(encode_batch(large)) < len(encoded(large)) / 4


def test_a_batch_over_the_limit_is_not_made_to_fit_by_deflating() -> None:
    body = Event(time=1.0, severity="info", kind="test", text="x" * 30_000)
    records = tuple(Record(sequence=number, body=body) for number in range(1, 10))
    with pytest.raises(MessageTooLargeError, match="at most 262144 are allowed"):
        encode_batch(TelemetryBatch(device="camera-1", epoch="e1", records=records))


@given(st.integers(0, 8), st.sampled_from(["type", "severity", "text", "time"]))
def test_a_bad_record_blocks_no_other(at: int, field: str) -> None:
    records = [event(number) for number in range(1, 10)]
    records[at]["body"][field] = {"type": "from-the-future", "time": "now"}.get(field)
    received = decode_envelope(encoded(plain(*records)))
    assert [record.sequence for record in received.records] == [n for n in range(1, 10) if n != at + 1]
    ((sequence, why),) = received.refused.items()
    assert sequence == str(at + 1)
    assert "$.body" in why or "from-the-future" in why


@pytest.mark.parametrize("sequence", [0, -1, 2**63, "1", None, 1.5])
def test_a_record_without_a_number_is_counted(sequence: object) -> None:
    received = decode_envelope(encoded(plain(event(sequence), event(2), {"body": {}}, 7)))
    assert [record.sequence for record in received.records] == [2]
    assert (received.refused, received.nameless) == ({}, 3)


def test_a_record_over_its_limit_is_refused_by_its_number() -> None:
    received = decode_envelope(encoded(plain(event(1, text="x" * MAX_RECORD_BYTES), event(2))))
    assert [record.sequence for record in received.records] == [2]
    assert f"at most {MAX_RECORD_BYTES} are allowed" in received.refused["1"]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (plain(), "1-256 records"),
        (plain(*[event(1)] * (MAX_BATCH_RECORDS + 1)), "1-256 records"),
        (plain(event(1), v=2), "v must be 1"),
        (plain(event(1), device="no such name"), r"\$\.device"),
        ({"v": 1, "device": "camera-1", "epoch": "e1"}, "missing required field `records`"),
        ([1, 2], "Expected `object`"),
    ],
)
def test_a_batch_that_can_not_be_read_says_why(batch: Any, words: str) -> None:
    with pytest.raises(MalformedMessageError, match=words):
        decode_envelope(encoded(batch))


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 100 * MIB])
def test_a_bomb_is_refused_before_it_is_blown_up(size: int) -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB))
    bomb += packer.compress(bytes(size % MIB)) + packer.flush()
    assert len(bomb) < MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLargeError, match="inflates to more than the 262144 bytes"):
        read(bomb)


def test_a_long_payload_is_refused_unread() -> None:
    with pytest.raises(MessageTooLargeError, match="at most 262144 are allowed"):
        decode_envelope(bytes(MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize(
    "inner",
    [
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million things
        b"\xdb\xff\xff\xff\xff",  # a text of four gigabytes
        b"\x91" * 60_000,  # arrays in arrays
        b"\x91" + b"\x82\xa8sequence\x01\xa4body" + b"\x81\xa4type" * 20_000,
        b"\x91\xc7\xff\x01",  # an extension that is cut short
    ],
)
def test_what_announces_more_than_it_has_costs_nothing(inner: bytes) -> None:
    payload = encoded(plain())[:-1] + inner
    for one in (payload, zlib.compress(payload)):
        with pytest.raises(MalformedMessageError):
            read(one)


@given(batches, st.data())
def test_a_batch_cut_short_anywhere_is_malformed(batch: TelemetryBatch, data: st.DataObject) -> None:
    for payload in (encoded(batch), zlib.compress(encoded(batch))):
        end = data.draw(st.integers(0, len(payload) - 1))
        with pytest.raises(MalformedMessageError):
            decode_envelope(payload[:end])


def test_something_behind_a_deflated_batch_is_malformed() -> None:
    with pytest.raises(MalformedMessageError, match="or something follows it"):
        decode_envelope(zlib.compress(encoded(plain(event(1)))) + b"x")


@given(batches, st.data())
def test_one_flipped_bit_is_an_error_or_a_batch(batch: TelemetryBatch, data: st.DataObject) -> None:
    for payload in (encoded(batch), zlib.compress(encoded(batch))):
        noisy = bytearray(payload)
        bit = data.draw(st.integers(0, 8 * len(payload) - 1))
        noisy[bit // 8] ^= 1 << bit % 8
        try:
            received = decode_envelope(bytes(noisy))
        except ProtocolError:
            continue
        assert all(record.sequence >= 1 for record in received.records)
        assert len(received.records) + len(received.refused) + received.nameless <= MAX_BATCH_RECORDS


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x78")
@example(b"\x78\x9c")
@example(b"{}")
def test_noise_is_never_anything_but_a_protocol_error(noise: bytes) -> None:
    for payload in (noise, b"\x78\x9c" + noise, zlib.compress(noise)):
        with pytest.raises(ProtocolError):
            decode_envelope(payload)
