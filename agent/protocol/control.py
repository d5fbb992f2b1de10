"""Technician ↔ agent: one JSON line each way over the local control socket (described in ``docs/cli.md``)."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.protocol.bundle import BundleOrder
from agent.protocol.drift import (
    DriftPolicy,
    DriftWindow,
    SignalCounts,
    SignalReference,
    SignalVerdict,
    VerdictLevel,
)
from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version
from agent.protocol.labels import MAX_LABELS, AccuracyFigure, Label, LabelAnswer, LabelCounts
from agent.protocol.ledger import LedgerReport
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.samples import KeptSample, SampleReason
from agent.protocol.state import DeploymentReport, Reason, ReportedState, ServingReport
from agent.protocol.telemetry import Event

MAX_REQUEST_BYTES = 256 * 1024
"""One request line, its line end included."""

MAX_RESPONSE_BYTES = 4 * MAX_MESSAGE_BYTES
"""One response line."""

DEFAULT_LIMIT = 20
MAX_LIMIT = 1_000

Method = Literal[
    "status",
    "models",
    "drift",
    "events",
    "plan",
    "data",
    "hold",
    "resume",
    "rollback",
    "accept",
    "sync",
    "bundle-install",
    "bundle-status",
    "bundle-receipt",
    "label",
    "accuracy",
    "samples-show",
    "samples-clear",
    "samples-export",
]
"""With ``bundle-install`` one open file descriptor is passed along (``SCM_RIGHTS``): a regular file, the bundle."""


class ControlRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request; a method takes no notice of the fields that are not its own."""

    v: Literal[1] = 1
    method: Method
    model: Name | None = None
    """Of ``models``, ``drift``, ``accept`` (None: every model) and ``rollback``, which needs it."""
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] | None = None
    """Of ``drift`` (windows of its history), ``events`` and others that list."""
    reason: Annotated[str, Meta(max_length=500)] | None = None
    """Of ``hold`` and ``rollback``."""
    after: Name | None = None
    """Of ``samples-export``: the sample after the one of this id, in the order of ids."""
    now: bool = False
    """Of ``accept``: without waiting for a maintenance window, an unmetered network, the battery or the heat."""
    labels: Annotated[tuple[Label, ...], Meta(max_length=MAX_LABELS)] = ()
    """Of ``label``, which also needs ``model``."""


class LabelResult(Struct, frozen=True, kw_only=True, tag="label"):
    """Answer to ``label``: what became of each, in the order of the request."""

    answers: tuple[LabelAnswer, ...]


class AccuracyResult(Struct, frozen=True, kw_only=True, tag="accuracy"):
    """Answer to ``accuracy``: real figures beside estimated ones, and how they came about."""

    figures: tuple[AccuracyFigure, ...]
    counts: LabelCounts


class StatusResult(Struct, frozen=True, kw_only=True, tag="status"):
    """Answer to ``status``: what the hub is told, and whether it can be told."""

    state: ReportedState
    connected: bool
    """To the broker, now."""
    link_problem: str | None = None
    """Why the newest connection failed or ended, while there is none."""
    hold: Reason | None = None
    """Why a technician holds the device, where one does."""
    desired_at: UnixTime | None = None
    """When the desired state was last verified in full; None: never since the start."""


class SlotReport(Struct, frozen=True, kw_only=True):
    """What one slot holds."""

    release: Version
    variant: Name
    artifact: Sha256
    deployment: Name
    standby: Name | None = None
    """The smaller variant that is kept beside it."""


class ModelReport(Struct, frozen=True, kw_only=True):
    """One model's slots, its newest deployment and what answers its requests."""

    model: Name
    address: str | None = None
    """Where the Open Inference Protocol is served."""
    active: SlotReport | None = None
    candidate: SlotReport | None = None
    previous: SlotReport | None = None
    floor: Count = 0
    deployment: DeploymentReport | None = None
    serving: ServingReport | None = None


class ModelsResult(Struct, frozen=True, kw_only=True, tag="models"):
    """Answer to ``models``, by name."""

    models: tuple[ModelReport, ...]


class DriftSignal(Struct, frozen=True, kw_only=True):
    """One signal: what it was when the model was made, and in the newest window."""

    reference: SignalReference
    counts: SignalCounts
    verdict: SignalVerdict


class DriftMark(Struct, frozen=True, kw_only=True):
    """One window in a timeline."""

    closed: UnixTime
    level: VerdictLevel
    rows: Count
    release: Version
    incomplete: bool = False
    alarm: VerdictLevel | None = None


class DriftReport(Struct, frozen=True, kw_only=True):
    """How one model's input looks beside its reference."""

    model: Name
    window: DriftWindow
    """The newest of all requests; of the release that served then."""
    signals: tuple[DriftSignal, ...] = ()
    """That which moved most first; empty where ``problem`` says why."""
    reference_rows: Count | None = None
    """Rows that the reference was made from."""
    policy: DriftPolicy | None = None
    """Of the reference: limits, and when a window closes."""
    problem: str | None = None
    """Why the window can't be laid beside its reference."""
    history: tuple[DriftMark, ...] = ()
    """Newest last, that of ``window`` included."""
    slices: tuple[DriftWindow, ...] = ()
    """The newest window of each slice."""
    accuracy: tuple[AccuracyFigure, ...] = ()
    """Counted from labels, of this release."""


class DriftResult(Struct, frozen=True, kw_only=True, tag="drift"):
    """Answer to ``drift``: a report a model that has closed a window, by name."""

    reports: tuple[DriftReport, ...]


class EventsResult(Struct, frozen=True, kw_only=True, tag="events"):
    """Answer to ``events``, the newest first."""

    events: tuple[Event, ...]


class PlanStep(Struct, frozen=True, kw_only=True):
    """What the agent means to do for one model, and why."""

    action: Name
    """``start``, ``adopt``, ``supersede``, ``refuse``, ``wait``, ``continue`` or ``nothing``."""
    model: Name
    deployment: Name | None = None
    release: Version | None = None
    reason: Reason


class PlanResult(Struct, frozen=True, kw_only=True, tag="plan"):
    """Answer to ``plan``."""

    steps: tuple[PlanStep, ...]
    refusal: Reason | None = None
    """Why the newest desired state as a whole was not taken, if it was not; the steps are of the one before."""


BundleStage = Literal["checking", "copying", "taken", "refused"]


class BundleReport(Struct, frozen=True, kw_only=True):
    """The newest bundle that was offered to this device."""

    bundle: Sha256
    """Of its signed index."""
    offered: UnixTime
    stage: BundleStage
    """``checking`` its signatures, ``copying`` what this device needs; ``taken``: it may leave; or ``refused``."""
    done_bytes: Count = 0
    total_bytes: Count = 0
    """Of the copying."""
    refusal: Reason | None = None
    orders: tuple[BundleOrder, ...] = ()
    """What it asks of this device, once it is taken."""
    deployments: tuple[DeploymentReport, ...] = ()
    """The same as far as it has begun; one that has not begun says what it waits for."""


class BundleResult(Struct, frozen=True, kw_only=True, tag="bundle"):
    """Answer to ``bundle-install`` and ``bundle-status``; None where none was offered yet."""

    report: BundleReport | None


class ReceiptResult(Struct, frozen=True, kw_only=True, tag="receipt"):
    """Answer to ``bundle-receipt``."""

    envelope: str
    """:class:`agent.protocol.envelope.Envelope` as JSON text."""
    final: bool
    """Whether every deployment of the bundle has ended."""


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """Answer to ``hold``, ``resume``, ``rollback``, ``accept`` and ``sync``: what was done, in a sentence."""

    message: str


class SampleView(Struct, frozen=True, kw_only=True):
    """A sample that is kept on this device, without its tensors."""

    id: Name
    model: Name
    release: Version
    time: UnixTime
    why: tuple[SampleReason, ...]
    confidence: float | None = None
    size_bytes: Count
    left: UnixTime | None = None
    """When it was first put on its way to the hub, if it was."""


class SampleDeparture(Struct, frozen=True, kw_only=True):
    """A request for samples as this device has seen it, and what left by it."""

    request: Name
    time: UnixTime
    """When it was decided on."""
    accepted: bool
    code: Name
    text: str
    model: Name | None = None
    approver: str | None = None
    """Key id of the approver that signed it; None where that could not be proven."""
    purpose: str | None = None
    samples: Count = 0
    """That were put on their way."""
    sent: Count = 0
    """Of these, what the hub has said that it committed."""
    size_bytes: Count = 0


class SamplesResult(Struct, frozen=True, kw_only=True, tag="samples"):
    """Answer to ``samples-show``."""

    enabled: bool
    """Whether inputs are kept."""
    may_leave: bool
    """Whether the owner lets them go when an approver asks."""
    samples: tuple[SampleView, ...]
    """The newest first, up to the limit."""
    count: Count
    """Of all that are kept."""
    size_bytes: Count
    maximum_bytes: Count
    departures: tuple[SampleDeparture, ...]
    """The newest requests first."""


class SampleFileResult(Struct, frozen=True, kw_only=True, tag="sample-file"):
    """Answer to ``samples-export``: one sample whole, for its owner at the device; None: there is no further one."""

    sample: KeptSample | None


class DataResult(Struct, frozen=True, kw_only=True, tag="data"):
    """Answer to ``data``: what the device has spent."""

    ledger: LedgerReport


ControlResult: TypeAlias = (
    StatusResult
    | ModelsResult
    | DriftResult
    | EventsResult
    | PlanResult
    | DataResult
    | LabelResult
    | AccuracyResult
    | BundleResult
    | ReceiptResult
    | SamplesResult
    | SampleFileResult
    | Done
)

ControlErrorCode = Literal[
    "malformed",
    "too-large",
    "unknown-model",
    "nothing-to-roll-back",
    "nothing-to-accept",
    "no-bundle",
    "not-a-bundle",
    "busy",
    "refused",
    "internal",
]


class ControlProblem(Struct, frozen=True, kw_only=True):
    """Why a request was not done."""

    code: ControlErrorCode
    text: str


class ControlResponse(Struct, frozen=True, kw_only=True):
    """Exactly one of the two is set."""

    v: Literal[1] = 1
    result: ControlResult | None = None
    error: ControlProblem | None = None
