"""Samples: inputs that a device keeps, where its owner allows it, and the signed request by which some of them may leave.

A request is an envelope (:mod:`agent.protocol.envelope`) with two signatures over the same bytes: the hub's director's and
one of an approver of the model. An approver says what may be asked for, the hub passes it on, and the device's own
configuration has the last word.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.codec import decode_json
from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, open_envelope
from agent.protocol.errors import MalformedMessageError
from agent.protocol.ids import Name, Sha256, UnixTime, Version

MAX_SAMPLES = 1_000
"""Of one request, from each device."""
MAX_SAMPLE_DEVICES = 256
MAX_SAMPLE_REQUEST_DAYS = 30.0
"""Longest time from signing to expiry."""
MAX_SAMPLE_ENVELOPE_BYTES = 48 * 1024

SampleReason = Literal["low-confidence", "outside-reference", "over-represented"]
"""``low-confidence``: the model was less sure than on nearly all reference rows. ``outside-reference``: a value lies outside the
reference's range, or is none. ``over-represented``: a value lies in a bin that lately has far more rows than the reference says."""


SampleDatatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
]

NUMPY_DTYPES: dict[SampleDatatype, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Data type of a tensor → numpy's name of it, for who writes samples into files."""


class SamplePolicy(Struct, frozen=True, kw_only=True):
    """Which inputs a runner hands over."""

    reasons: tuple[SampleReason, ...]
    low_confidence_share: float
    """Share of the reference's rows that are less confident than what counts as low."""
    per_hour: int
    """Samples that are handed over at most; up to a sixth of them at once."""
    maximum_bytes: int
    """Of one sample's tensors; larger ones are not kept."""


class SampleTensor(Struct, frozen=True, kw_only=True):
    """One tensor of one row."""

    name: str
    datatype: SampleDatatype
    """As the Open Inference Protocol names them."""
    shape: tuple[int, ...]
    """With a first axis of 1."""
    data: bytes
    """Little-endian, row-major."""


class KeptSample(Struct, frozen=True, kw_only=True):
    """One input that was worth keeping, with what the model said of it."""

    id: Name
    """The first 32 hexadecimal digits of the SHA-256 of its inputs: the same input is one sample."""
    model: Name
    release: Version
    deployment: Name
    artifact: Sha256
    time: UnixTime
    """When it was asked, within a second."""
    why: tuple[SampleReason, ...]
    score: float
    """How informative it is: larger is more."""
    likeness: str
    """The same for inputs whose monitored values all lie in the same bins: a camera that is stuck fills few places."""
    confidence: float | None = None
    """By the release's confidence signal; None where it has none."""
    inputs: tuple[SampleTensor, ...]
    outputs: tuple[SampleTensor, ...]

    @property
    def tensor_bytes(self) -> int:
        return sum(len(each.data) for each in (*self.inputs, *self.outputs))


class SampleRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an approver asks devices for. A device takes each id once."""

    v: Literal[1] = 1
    id: Name
    model: Name
    devices: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MAX_SAMPLE_DEVICES)]
    first_release: Version
    last_release: Version
    """Samples of the releases from the first to the last, both included."""
    maximum: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
    """Samples, from each device."""
    created: UnixTime
    expires: UnixTime
    """Nothing is sent after it, by trusted time."""
    purpose: Annotated[str, Meta(min_length=1, max_length=500)]
    """What they are for, in words; told to the device's owner."""


def read_sample_request(payload: bytes) -> SampleRequest:
    """Decode and check a request; its signatures are not checked here.

    Raises:
        MessageTooLargeError: it is too large.
        MalformedMessageError: it is none, or contradicts itself.
    """
    request = decode_json(payload, SampleRequest, limit=MAX_SAMPLE_ENVELOPE_BYTES)
    if request.last_release < request.first_release:
        raise MalformedMessageError(
            f"SampleRequest: releases {request.first_release} to {request.last_release}: the last is before the first"
        )
    lifetime = request.expires - request.created
    if not 0 < lifetime <= MAX_SAMPLE_REQUEST_DAYS * 86_400:
        raise MalformedMessageError(
            f"SampleRequest: it lives {lifetime / 86_400:.1f} days, allowed are over 0 to {MAX_SAMPLE_REQUEST_DAYS:g}"
        )
    if not request.purpose.isprintable():
        raise MalformedMessageError("SampleRequest: its purpose must be one line of printable characters")
    return request


def open_sample_request(envelope: bytes) -> SampleRequest:
    """:func:`read_sample_request` of an envelope's payload; raises alike."""
    opened = open_envelope(envelope, SAMPLE_REQUEST_TYPE, limit=MAX_SAMPLE_ENVELOPE_BYTES)
    return read_sample_request(opened.payload)


class VerifiedSampleRequest(Struct, frozen=True, kw_only=True):
    """A request that the hub's director and an approver of its model have signed for this device; only the verifier makes one."""

    request: SampleRequest
    digest: Sha256
    """Of the signed bytes."""
    approver: str
    """Key id of the approver that signed it."""
