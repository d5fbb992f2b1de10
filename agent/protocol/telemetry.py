"""Telemetry: records with a key of (device, epoch, sequence), acknowledged by the hub after it has committed them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.drift import DriftWindow
from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version
from agent.protocol.labels import LabelOrigin
from agent.protocol.limits import MAX_BATCH_RECORDS
from agent.protocol.samples import SampleReason, SampleTensor

Severity = Literal["info", "warning", "error"]

Sequence = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""Number of a record in its epoch; what a database can hold."""


Thermal = Literal["ok", "hot", "critical"]
"""``hot``: where the kernel slows the device down, or its maker says so; ``critical``: where it is shut down."""


class Event(Struct, frozen=True, kw_only=True, tag="event"):
    """Something happened: a deployment moved, a runner was replaced, a technician held the device."""

    time: UnixTime
    severity: Severity
    kind: Name
    """Stable: ``deployment``, ``runner-restarted``, ``hold``, …"""
    text: str
    model: Name | None = None
    release: Version | None = None
    deployment: Name | None = None


class Health(Struct, frozen=True, kw_only=True, tag="health", omit_defaults=True):
    """How the device itself is."""

    time: UnixTime
    cpu_percent: float
    memory_available_mib: float
    disk_free_mib: float
    temperature_c: float | None
    thermal: Thermal | None
    """None where the device does not tell."""
    load: float
    """Processes that run or wait for a processor, mean of the last minute, by processor: over 1 some wait."""
    supervisor_pss_mib: float
    merged: Count = 1
    """Samples it was made of, by thinning on the device: then ``cpu_percent`` and ``load`` are their means, ``time`` is the
    newest's, and all else is the worst of them."""


class Window(Struct, frozen=True, kw_only=True, tag="window"):
    """A closed drift window."""

    window: DriftWindow


class Sample(Struct, frozen=True, kw_only=True, tag="sample"):
    """One input that an approver asked for, from a device whose owner lets it go (:mod:`agent.protocol.samples`)."""

    request: Name
    """Id of the request by which it left."""
    sample: Name
    """Id of the sample on its device."""
    model: Name
    release: Version
    artifact: Sha256
    taken: UnixTime
    why: tuple[SampleReason, ...]
    confidence: float | None
    inputs: tuple[SampleTensor, ...]
    outputs: tuple[SampleTensor, ...]


class SampleAnswer(Struct, frozen=True, kw_only=True, tag="sample-answer"):
    """What a device says to a request for samples; a later answer takes the place of an earlier one."""

    time: UnixTime
    request: Name
    digest: Sha256
    """Of the request's signed bytes, as they arrived here."""
    accepted: bool
    code: Name
    """``accepted``, ``stopped`` (given up on the way), or why it was refused: ``not-allowed``, ``not-an-approver``, …"""
    text: str
    chosen: Count = 0
    """Samples that leave, or left."""
    too_large: Annotated[tuple[Name, ...], Meta(max_length=64)] = ()
    """Samples that fit into no record and stay; at most 64 of them are named."""


class Accuracy(Struct, frozen=True, kw_only=True, tag="accuracy", omit_defaults=True):
    """Labels that were joined with one day's predictions: all of them so far.

    A later record takes the place of an earlier one with the same model, release, slice, day and origin.
    """

    time: UnixTime
    model: Name
    release: Version
    slice: str | None = None
    """As in :class:`agent.protocol.drift.DriftWindow`."""
    opened: UnixTime
    """The day (UTC) on which the requests were answered, whenever their labels came."""
    closed: UnixTime
    origin: LabelOrigin
    """``model``: no truth; kept apart from the real figure."""
    rows: Count
    correct: Count
    expected_rows: Count = 0
    """Of the rows, those of which the calibration says something."""
    expected_correct: float = 0.0
    """Right answers that it expects among them."""
    suspicious: bool = False
    """These labels agree with the model improbably often: they may be its own output."""


Body = Event | Health | Window | Sample | SampleAnswer | Accuracy


class Record(Struct, frozen=True, kw_only=True):
    sequence: Sequence
    """Grows by one with every record of an epoch."""
    body: Body


class TelemetryBatch(Struct, frozen=True, kw_only=True):
    """Device → hub."""

    v: Literal[1] = 1
    device: Name
    epoch: Name
    """New when the device's telemetry database is new, so that sequences never collide."""
    records: Annotated[tuple[Record, ...], Meta(min_length=1, max_length=MAX_BATCH_RECORDS)]


class TelemetryAck(Struct, frozen=True, kw_only=True):
    """Hub → device, after commit: these sequences are safe (or can never be taken, see ``refused``)."""

    v: Literal[1] = 1
    epoch: Name
    sequences: tuple[int, ...]
    refused: dict[str, str] = {}
    """Sequence → why the hub can never store it; the device drops it and counts it as ``refused``."""


class TelemetryCounts(Struct, frozen=True, kw_only=True):
    """How many records of a device the hub holds, by kind; for comparing with the device's ledger."""

    epoch: str
    records: Count
    by_kind: dict[str, Count]
