"""Telemetry batches on the wire: msgpack, deflated where it is worth it, and read record by record.

A batch is one msgpack map. One over :data:`DEFLATE_OVER` bytes is deflated (zlib) if that makes it smaller. The first byte tells
them apart: a zlib stream of the usual window begins with ``0x78``, which in msgpack is a number and never a map.

Reading is bounded before it is done: what a payload inflates to may not be longer than a plain message may be.
"""

import zlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

from agent.protocol.codec import encode_msgpack
from agent.protocol.errors import MalformedMessageError, MessageTooLargeError
from agent.protocol.ids import Count, Name
from agent.protocol.limits import MAX_BATCH_RECORDS, MAX_MESSAGE_BYTES, MAX_RECORD_BYTES
from agent.protocol.telemetry import Record, Sequence, TelemetryBatch

DEFLATE_OVER = 1024
"""Bytes; a smaller batch is sent as it is: one frame of a mobile network holds it anyway."""

_DEFLATED = 0x78
_LEVEL = 9
"""A batch is small, and sent over lines that cost more than a millisecond of a processor."""
_REASON_CHARACTERS = 300


class _Envelope(Struct, frozen=True):
    v: int
    device: Name
    epoch: Name
    records: list[msgspec.Raw]


class _SequenceOnly(Struct, frozen=True):
    sequence: Sequence


_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@cache
def _decoders() -> tuple[
    Callable[[bytes], _Envelope],
    Callable[[bytes | msgspec.Raw], Record],
    Callable[[bytes | msgspec.Raw], _SequenceOnly],
]:
    """Of an envelope, a record, a sequence; made when first needed: they take 0.4 MiB, and a device only encodes."""
    return (
        msgspec.msgpack.Decoder(_Envelope).decode,
        msgspec.msgpack.Decoder(Record).decode,
        msgspec.msgpack.Decoder(_SequenceOnly).decode,
    )


class ReceivedBatch(NamedTuple):
    """A batch of which every record was looked at by itself, so that one bad record blocks no other. Never sent."""

    device: Name
    epoch: Name
    records: tuple[Record, ...]
    refused: dict[str, str]
    """Sequence → why this record can never be stored."""
    nameless: Count = 0
    """Records of which not even the sequence can be read: nothing can be said about them to the device."""


def encode_batch(batch: TelemetryBatch) -> bytes:
    """A batch as it is sent.

    Raises:
        MessageTooLargeError: over :data:`~agent.protocol.limits.MAX_MESSAGE_BYTES` before it is deflated.
    """
    plain = encode_msgpack(batch)
    if len(plain) <= DEFLATE_OVER:
        return plain
    return min(zlib.compress(plain, _LEVEL), plain, key=len)


def decode_envelope(payload: bytes) -> ReceivedBatch:
    """Read a batch, record by record.

    Raises:
        MessageTooLargeError: it is, or inflates to, more than :data:`~agent.protocol.limits.MAX_MESSAGE_BYTES`.
        MalformedMessageError: the batch as a whole can't be read.
    """
    read_envelope, read_record, read_sequence = _decoders()
    try:
        envelope = read_envelope(_plain(payload))
    except _BAD as error:
        raise MalformedMessageError(f"TelemetryBatch: {error}") from error
    if envelope.v != 1 or not 1 <= len(envelope.records) <= MAX_BATCH_RECORDS:
        raise MalformedMessageError(
            f"TelemetryBatch: v must be 1, and 1-{MAX_BATCH_RECORDS} records are allowed"
        )
    records: list[Record] = []
    refused: dict[str, str] = {}
    nameless = 0
    for raw in envelope.records:
        try:
            records.append(read_record(_bounded(raw)))
        except (MessageTooLargeError, *_BAD) as error:
            sequence = _sequence(raw, read_sequence)
            if sequence is None:
                nameless += 1
            else:
                refused[str(sequence)] = str(error)[:_REASON_CHARACTERS]
    return ReceivedBatch(
        device=envelope.device,
        epoch=envelope.epoch,
        records=tuple(records),
        refused=refused,
        nameless=nameless,
    )


def _plain(payload: bytes) -> bytes:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"TelemetryBatch: {len(payload)} bytes, at most {MAX_MESSAGE_BYTES} are allowed"
        )
    if payload[:1] != bytes([_DEFLATED]):
        return payload
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(payload, MAX_MESSAGE_BYTES + 1)
    except zlib.error as error:
        raise MalformedMessageError(f"TelemetryBatch: can't be inflated: {error}") from error
    if len(plain) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"TelemetryBatch: inflates to more than the {MAX_MESSAGE_BYTES} bytes that are allowed"
        )
    if not inflater.eof or inflater.unused_data:
        raise MalformedMessageError(
            "TelemetryBatch: the deflated batch is cut short, or something follows it"
        )
    return plain


def _bounded(raw: msgspec.Raw) -> msgspec.Raw:
    size = memoryview(raw).nbytes
    if size > MAX_RECORD_BYTES:
        raise MessageTooLargeError(f"Record: {size} bytes, at most {MAX_RECORD_BYTES} are allowed")
    return raw


def _sequence(raw: msgspec.Raw, read: Callable[[msgspec.Raw], _SequenceOnly]) -> int | None:
    try:
        return read(raw).sequence
    except _BAD:
        return None
