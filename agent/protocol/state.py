"""Desired and reported state. Each document is whole: the newest one replaces the one before."""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from agent.protocol.ids import Count, Name, Sha256, UnixTime, Version
from agent.protocol.ledger import BudgetReport, Traffic
from agent.protocol.limits import MAX_DIRECTOR_BYTES, MAX_REPORTED_DEPLOYMENTS
from agent.protocol.words import one_line


class DesiredState(Struct, frozen=True, kw_only=True):
    """Retained, hub → device: the director's signed document, which alone says what to run."""

    v: Literal[1] = 1
    device: Name
    director: Annotated[str, Meta(max_length=MAX_DIRECTOR_BYTES)]
    """The director's TUF targets document as JSON text, byte for byte as it was signed (UTF-8)."""


class VariantPolicy(StrEnum):
    """Which variant of a release a device may choose."""

    MOST_ACCURATE = "most-accurate"
    """Of those that run here and keep the budget, the most accurate; ties go to the smaller file."""
    SMALLEST = "smallest"


class ShadowPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a candidate is compared with the release that serves, on copies of live requests, before it may serve."""

    share: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Of the requests that are answered well, chosen at random."""
    requests: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 200
    """Comparing ends when the candidate has answered this many copies,"""
    seconds: Annotated[float, Meta(gt=0, le=2_592_000)] = 600.0
    """or after this time, whichever comes first."""
    maximum_disagreement: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of rows that may differ; over it the candidate is refused. None: only reported."""
    tolerance: Annotated[float, Meta(ge=0)] | None = None
    """Largest |difference| of any value. None: the class (arg-max of the last axis) must be the same where an output has
    classes, and everything else equal."""


class Assignment(Struct, frozen=True, kw_only=True):
    """``custom`` of a director's target ``models/<model>/<release>/manifest.json``."""

    deployment: Name
    variant_policy: VariantPolicy = VariantPolicy.MOST_ACCURATE
    hold: bool = False
    """The hub asks to keep what is running."""
    shadow: ShadowPolicy | None = None
    """None: the probe alone decides."""


class Phase(StrEnum):
    """Where one deployment stands (the states of :mod:`agent.core.update_machine`)."""

    FETCHING = "fetching"
    READY = "ready"
    """Complete and verified on the device; waits for what installing asks for (a window, an operator, …)."""
    PROBING = "probing"
    ACTIVATING = "activating"
    PROBATION = "probation"
    ROLLING_BACK = "rolling-back"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    REFUSED = "refused"
    """Ended before it served: not verified, not fetched, or its probe failed."""
    SUPERSEDED = "superseded"
    """Ended before it was committed, because the desired state changed."""


FINAL_PHASES = frozenset({Phase.COMMITTED, Phase.ROLLED_BACK, Phase.REFUSED, Phase.SUPERSEDED})


class Reason(Struct, frozen=True, kw_only=True):
    """Why a deployment stands where it stands."""

    code: Name
    """Stable, for programs: ``golden-mismatch``, ``latency-over-budget``, ``not-approved``, …"""
    text: str
    """Plain words with the figures, for people: one printable line, cut at 1,000 characters, whoever wrote part of it."""

    def __post_init__(self) -> None:
        force_setattr(self, "text", one_line(self.text))


class Acceptance(Struct, frozen=True, kw_only=True):
    """A person at the device let one deployment be installed."""

    by: str
    """Who asked at the control socket: ``maria (uid 1000)``."""
    at: UnixTime
    now: bool = False
    """Without waiting for a maintenance window, an unmetered network, the battery or the heat."""


class ShadowFigures(Struct, frozen=True, kw_only=True):
    """What was seen of a candidate that was fed copies of live requests."""

    requests: Count = 0
    """Copies that the candidate answered, well or with an error."""
    rows: Count = 0
    """In these requests."""
    disagreed: Count = 0
    """Rows that the candidate answered otherwise than the release that serves, or with an error."""
    failed: Count = 0
    """Of the requests, those answered with an error."""
    dropped: Count = 0
    """Copies not made, or not answered in time: the candidate was still busy with the one before."""
    p50_ms: float | None = None
    """From copy to answer, at the lowest priority; None where none was answered."""
    p99_ms: float | None = None
    seconds: float = 0.0
    """How long it was compared."""
    text: str = ""
    """In words, with what was asked for."""


class Measurement(Struct, frozen=True, kw_only=True):
    """What the probe measured on this device."""

    variant: Name
    artifact: Sha256
    size_bytes: Count
    p50_ms: float
    p99_ms: float
    peak_memory_mib: float
    golden_max_error: float
    golden_class_agreement: float
    budget_p99_ms: float
    budget_memory_mib: float
    shadow: ShadowFigures | None = None
    """None where it was not asked for, or not reached."""


class TriedVariant(Struct, frozen=True, kw_only=True):
    """A variant that this device's probe refused."""

    variant: Name
    reason: Reason
    measurement: Measurement | None = None
    """None where it did not come to a measurement: it could not be loaded, or died."""


Way = Literal["mqtt", "http", "bundle"]
"""How an artifact's bytes reach the device."""


class TransferProgress(Struct, frozen=True, kw_only=True):
    """How far the bytes of a deployment are."""

    done_bytes: Count
    """That are here, of what must travel."""
    total_bytes: Count
    bytes_per_second: float | None = None
    """Over the newest seconds; None until it can be said."""
    eta_seconds: float | None = None
    """Until all are here, at that rate; None where nothing moves."""
    way: Way | None = None
    """What they come by now; None while nothing does."""


class DeploymentReport(Struct, frozen=True, kw_only=True):
    """One deployment as the device sees it."""

    deployment: Name
    model: Name
    release: Version
    phase: Phase
    since: UnixTime
    reason: Reason | None = None
    waiting_for: Reason | None = None
    """Set while the device could go on but does not: a hold, a maintenance window, a metered network, probation, …"""
    waiting_until: UnixTime | None = None
    """When that is over by itself, where it is known."""
    accepted: Acceptance | None = None
    """By whom it was accepted on the device."""
    measurement: Measurement | None = None
    tried: tuple[TriedVariant, ...] = ()
    """Variants that were refused here, in the order in which they were tried."""
    chosen: Reason | None = None
    """Why the variant that was chosen last was chosen: ``most-accurate`` or ``smallest``, and what of."""
    progress: TransferProgress | None = None
    """While fetching."""


class ServiceVerdict(Struct, frozen=True, kw_only=True):
    """How what serves stands against its service level, over the newest span of requests."""

    level: Literal["ok", "broken", "insufficient data"]
    requests: Count
    """Judged: answered and turned away."""
    p99_ms: float | None
    """Whole requests, within 1 %; None where none was answered."""
    failure_rate: float | None
    """Failed and turned away, as a share of ``requests``; None where there was none."""
    text: str
    """In words, with the figures and what is allowed."""


class ServingReport(Struct, frozen=True, kw_only=True):
    """What answers requests for a model now."""

    model: Name
    release: Version
    variant: Name
    artifact: Sha256
    ready: bool
    requests: Count
    failures: Count
    """The model's own."""
    refused: Count = 0
    """Requests of a wrong shape, datatype or form: the client's fault, not in ``requests``."""
    turned_away: Count = 0
    """Requests not taken because too many were waiting; not in ``requests``."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    memory_mib: float | None = None
    drift: str | None = None
    """Level of the newest verdict."""
    drift_rows: Count | None = None
    service_level: ServiceVerdict | None = None
    """None where the release declares none for this hardware class, or is not committed yet."""
    degraded: Reason | None = None
    """Why the release's smaller variant serves in place of the chosen one, if it does."""


class OutboxReport(Struct, frozen=True, kw_only=True):
    """The telemetry ledger: ``recorded == acknowledged + pending + dropped + merged`` in every epoch."""

    epoch: str
    recorded: Count
    acknowledged: Count
    pending: Count
    dropped: dict[str, Count]
    """Kind → records dropped for space; or why they could never be sent: ``oversized``, ``refused``, ``unreadable``."""
    quarantined: Count
    """Records that could never be sent; they are counted in ``dropped`` too."""
    merged: dict[str, Count] = {}
    """Kind → records that went into another one that waits, or waited; what they counted is in that one."""
    budget: BudgetReport | None = None
    """None: telemetry may cost what it costs."""


class ModelRelease(Struct, frozen=True, kw_only=True):
    """One release of one model."""

    model: Name
    release: Version


class RoleExpiry(Struct, frozen=True, kw_only=True):
    """Until when a signed document holds that this device relies on."""

    role: str
    """``root``, ``timestamp``, ``snapshot``, ``targets``, a model, or ``director``: this device's own document."""
    expires: UnixTime


class TrustReport(Struct, frozen=True, kw_only=True):
    """What this device trusts, until when, and what somebody should know of it."""

    hub_time: UnixTime
    """The newest time that the hub has signed; 0: none yet."""
    expiry: tuple[RoleExpiry, ...]
    """Of the newest check that could be made."""
    withdrawn: tuple[ModelRelease, ...]
    """Committed here last, and taken back by their approvers."""
    warnings: tuple[Reason, ...]
    """``role-expires``, ``role-expired``, ``release-withdrawn``, ``clock-behind``, ``clock-ahead``; in words, with what to do."""


class ReportedState(Struct, frozen=True, kw_only=True):
    """Retained, device → hub."""

    v: Literal[1] = 1
    device: Name
    agent_version: str
    hardware_class: Name
    boot: str
    """Changes with every start of the agent."""
    sequence: Count
    """Grows with every report of one boot; an older report is ignored."""
    time: UnixTime
    held: bool
    """A technician holds the device."""
    inference_address: str | None
    """Where the Open Inference Protocol is served, for instance ``127.0.0.1:8600``."""
    serving: tuple[ServingReport, ...]
    deployments: Annotated[tuple[DeploymentReport, ...], Meta(max_length=MAX_REPORTED_DEPLOYMENTS)]
    outbox: OutboxReport
    errors: dict[str, Count]
    """What was refused or failed since the start, by kind: malformed messages, unknown topics, …"""
    refusal: Reason | None = None
    """Why the newest desired state as a whole was not taken, if it was not."""
    problems: tuple[Reason, ...] = ()
    """What is wrong with the device's own memory now: ``state-damaged``, ``trust-damaged``, ``disk-refuses``,
    ``telemetry-unavailable``. It serves nevertheless."""
    trust: TrustReport | None = None
    """None before the first check since the start."""
    traffic: Annotated[tuple[Traffic, ...], Meta(max_length=32)] = ()
    """Of this month (UTC), by purpose; told again every five minutes."""


class Presence(Struct, frozen=True, kw_only=True):
    """Retained, device → hub; ``online=False`` is also the last will."""

    v: Literal[1] = 1
    online: bool
    boot: str


class Command(Struct, frozen=True, kw_only=True):
    """Hub → device. The only one yet: publish reported state and send telemetry again, now."""

    v: Literal[1] = 1
    command: Literal["sync"]
