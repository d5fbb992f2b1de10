"""Supervisor ↔ runner: the control channel of one inference process (msgpack frames over a socket pair)."""

from typing import Literal

from msgspec import Struct

from agent.protocol.access import Access
from agent.protocol.drift import CountPrivacy, DriftWindow, SignalVerdict
from agent.protocol.labels import Label, LabelAnswer, Prediction
from agent.protocol.latency import LatencyBins
from agent.protocol.manifest import TensorSpec
from agent.protocol.samples import KeptSample, SamplePolicy

LabelAccess = Literal["off", "unix", "unix+tcp"]
"""Where labels are taken over HTTP: nowhere; on the Unix sockets; on ``serving.address`` too."""

SharedMemoryAccess = Literal["off", "unix", "unix+tcp"]
"""``unix``: who connects over a Unix socket, with regions of their own; ``unix+tcp``: whoever reaches the TCP port too."""


class Start(Struct, frozen=True, kw_only=True, tag="start"):
    """First frame: everything the runner needs; it opens no path that is not named here."""

    model: str
    release: int
    deployment: str
    variant: str
    runtime: str
    artifact_path: str
    artifact_sha256: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    reference_path: str | None
    """Drift reference; None switches bookkeeping off."""
    private_fd: int
    """Listening Unix socket of this slot, accepted on at once (probe, diagnosis)."""
    shared_fds: tuple[int, ...]
    """The device's listening sockets, accepted on only after :class:`Accept`."""
    threads: int
    default_deadline_ms: float
    """For requests that carry no ``timeout`` parameter."""
    maximum_body_bytes: int
    queue_depth: int
    """Requests that may wait for the model; more are answered 503 at once."""
    shared_memory: SharedMemoryAccess = "off"
    """Who may pass tensors in ``/dev/shm`` regions."""
    access: Access = Access()
    samples: SamplePolicy | None = None
    """Inputs to hand over; None: none, and none is copied for it."""
    predictions_per_minute: int = 0
    """Rows whose prediction is told, so that labels can be joined later; 0: none."""
    labels_from: LabelAccess = "off"
    drift_states: dict[str, bytes] = {}
    """By slice ("" is the whole): the newest :attr:`WindowClosed.drift_state` of this release."""


class Probe(Struct, frozen=True, kw_only=True, tag="probe"):
    """Compare golden outputs, then time ``repetitions`` single-row inferences after ``warmup``."""

    golden_path: str
    warmup: int
    repetitions: int
    p99_limit_ms: float | None = None
    """Timing ends as soon as so many were slower that the p99 of all ``repetitions`` would be over it."""


class Accept(Struct, frozen=True, kw_only=True, tag="accept"):
    """Start to accept on the shared sockets."""


class Shadow(Struct, frozen=True, kw_only=True, tag="shadow"):
    """To the runner that serves: send copies of answered requests to a candidate and compare; a new one ends the one before."""

    session: int
    """Repeated in its reports."""
    path: str
    """The candidate's private Unix socket."""
    share: float
    """Of the requests answered well; above 0, at most 1."""
    requests: int
    """Ends when the candidate has answered this many copies."""
    tolerance: float | None
    """As in :class:`agent.protocol.state.ShadowPolicy`."""


class EndShadow(Struct, frozen=True, kw_only=True, tag="end-shadow"):
    """Stop sending copies, and report a last time; without effect where that session has ended."""

    session: int


class Drain(Struct, frozen=True, kw_only=True, tag="drain"):
    """Stop accepting on the shared sockets; say ``Connection: close`` with each further answer, then leave."""

    idle_seconds: float
    """How long to wait for idle keep-alive clients."""


class YieldTcp(Struct, frozen=True, kw_only=True, tag="yield-tcp"):
    """Stop accepting over TCP, now or later: the front does. Those connected close after their next answer."""


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """Close the open drift window as it is, report it, and exit."""


class LabelsJoined(Struct, frozen=True, kw_only=True, tag="labels-joined"):
    """Answer to :class:`LabelsGiven`."""

    call: int
    answers: tuple[LabelAnswer, ...] = ()
    """In the order of the labels."""
    problem: str | None = None
    """Why none of them could be taken now."""


ToRunner = Start | Probe | Accept | Shadow | EndShadow | Drain | Stop | YieldTcp | LabelsJoined


class Loaded(Struct, frozen=True, kw_only=True, tag="loaded"):
    """The model is loaded, warmed up, and answers on the private socket."""

    backend: str
    """For instance ``onnxruntime 1.22.0``."""
    load_ms: float


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load-failed"):
    code: str
    text: str


class ProbeReport(Struct, frozen=True, kw_only=True, tag="probe-report"):
    golden_max_error: float
    """Largest |difference| of any output element; ``inf`` where a value is not finite or a shape differs."""
    golden_class_agreement: float
    golden_rows: int
    p50_ms: float
    p99_ms: float
    repetitions: int


class ProbeFailed(Struct, frozen=True, kw_only=True, tag="probe-failed"):
    code: str
    text: str


class Accepting(Struct, frozen=True, kw_only=True, tag="accepting"):
    pass


class Drained(Struct, frozen=True, kw_only=True, tag="drained"):
    """No connection is left; the process exits after this."""

    closed_idle: int
    """Clients that were idle beyond the deadline and had to be cut."""


class Served(Struct, frozen=True, kw_only=True):
    """What was answered in one stretch of time, so that any span can be added up."""

    latencies: LatencyBins = LatencyBins()
    """Of the requests that were answered, good and failed."""
    failures: int = 0
    """Of these, the model's own."""
    turned_away: int = 0
    """Requests not taken because too many were waiting."""


class Statistics(Struct, frozen=True, kw_only=True, tag="statistics"):
    """Pushed once a second while anything changed, and at the end; counts since the start of this runner."""

    requests: int
    """Answered inferences, good and failed; refused input (4xx) is counted apart."""
    failures: int
    """The model's own failures: inference errors, missed deadlines, non-finite outputs."""
    not_finite: int = 0
    """Of these failures, outputs with NaN or infinite values for finite inputs."""
    refused: int
    """Requests with a wrong shape, dtype or form, by the client's fault."""
    turned_away: int = 0
    """Requests not taken because too many were waiting."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    recent: Served = Served()
    """Since the last report; the counts above are since the start."""


class Alive(Struct, frozen=True, kw_only=True, tag="alive"):
    """Pushed every second; a runner that does not is stuck."""

    running_seconds: float
    """How long the inference that is under way has taken so far; 0 when none is."""


class WindowClosed(Struct, frozen=True, kw_only=True, tag="window"):
    window: DriftWindow
    signals: dict[str, SignalVerdict] = {}
    """Each signal's statistics: they stay on the device."""
    drift_state: bytes = b""
    """Persistence and sequential detector after this window; opaque, to be given back in :class:`Start`."""
    privacy: CountPrivacy | None = None
    """What the release asks for of its counts before they leave the device."""


class WindowOpen(Struct, frozen=True, kw_only=True, tag="open-window"):
    """Now and then, while rows come: what is to be recorded if the runner ends without another word."""

    so_far: WindowClosed
    """Marked as incomplete."""


class SampleTaken(Struct, frozen=True, kw_only=True, tag="sample"):
    """An input worth keeping; only where :class:`Start` asks for them, and no more than it allows."""

    sample: KeptSample


class Predicted(Struct, frozen=True, kw_only=True, tag="predicted"):
    """What was said of the newest requests that carried an id; about once a second."""

    predictions: tuple[Prediction, ...]
    skipped: int = 0
    """Rows that were not told: more came than :attr:`Start.predictions_per_minute`."""
    privacy: CountPrivacy | None = None
    """What the release asks for of its labels' counts before they leave the device."""


class LabelsGiven(Struct, frozen=True, kw_only=True, tag="labels-given"):
    """A client has sent labels, and waits for their answer."""

    call: int
    """Repeated in the answer."""
    labels: tuple[Label, ...]


class ShadowReport(Struct, frozen=True, kw_only=True, tag="shadow-report"):
    """What a session of :class:`Shadow` has seen since it began; sent once a second while anything changed, and at its end.

    The counts are those of :class:`agent.protocol.state.ShadowFigures`.
    """

    session: int
    requests: int
    rows: int
    disagreed: int
    failed: int
    dropped: int
    latencies: LatencyBins = LatencyBins()
    """From copy to answer."""
    final: bool = False
    """The session has ended; no further report comes."""


FromRunner = (
    Loaded
    | LoadFailed
    | ProbeReport
    | ProbeFailed
    | Accepting
    | Drained
    | Statistics
    | Alive
    | WindowClosed
    | WindowOpen
    | SampleTaken
    | Predicted
    | LabelsGiven
    | ShadowReport
)
