"""The agent's configuration: one TOML file, typed, with a default for every setting that can have one.

``docs/configuration.md`` is made from these structs: the docstring below a field is its meaning there.
"""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from agent.core.maintenance import WINDOW_FORM, WINDOW_PATTERN
from agent.protocol.access import Access, OutputLimits, QueryBudget, TcpBudget, TlsFiles
from agent.protocol.drift import CountPrivacy
from agent.protocol.ids import Name
from agent.protocol.runner import LabelAccess, SharedMemoryAccess
from agent.protocol.samples import SamplePolicy, SampleReason

Address = Annotated[
    str, Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):[0-9]{1,5}$(?!\n)", description="host:port")
]
AbsolutePath = Annotated[str, Meta(pattern=r"^/[^\x00]*$(?!\n)", description="an absolute path")]
HostName = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$(?!\n)",
        description="a host name in lower case, without a port",
    ),
]
PositiveInt = Annotated[int, Meta(ge=1, le=2**53)]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
"""Bounded, so that neither ``inf`` nor ``nan`` becomes a time to wait."""


class DeviceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who this device is and where it keeps things."""

    id: Name
    """Device id: 1-64 of ``a-z 0-9 . _ -``."""
    hardware_class: Name
    """Names the budgets in a manifest that hold here."""
    state_dir: str = "/var/lib/edgeward"
    """Identity, trust, artifacts and databases; must survive a reboot."""
    runtime_dir: str = "/run/edgeward"
    """Sockets; may vanish at a reboot."""
    artifact_bytes: PositiveInt = 2 * 1024 * 1024 * 1024
    """Bound of all model files together, bytes: what serves, what can be gone back to, and what is on its way."""
    rehash: Literal["always", "changed"] = "always"
    """A model's files are hashed before each start of a process that loads them. ``changed``: once after a start of the
    agent, and where a file's inode, size or times have changed since; spares slow disks, and does not see rot between."""


class TlsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS of ``serving.address``, 1.2 or newer. Without it only loopback may be listened on.

    With it nothing there speaks plain HTTP. Files in PEM; each runner reads them when it starts, so that renewed ones hold
    from the next on.
    """

    certificate: AbsolutePath
    """The device's certificate and what lies between it and its authority, leaf first."""
    key: AbsolutePath
    """Its private key, not encrypted; the agent's user must be able to read it."""
    client_ca: AbsolutePath | None = None
    """Authorities: only clients with a certificate from one of them are let in. Not set: whoever reaches the address is."""


class QueryBudgetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that one user may have inferred, so that a model can't be copied by asking it often enough.

    A user is a uid on the model's Unix socket; root and the agent's own user, who can read the model's file, are not counted.
    """

    rows_per_hour: PositiveInt
    """Of every user. What is over it is answered 429."""
    burst: PositiveInt
    """Of these, at most so many at once; a larger batch is answered 413."""
    tcp: TcpBudget = "refused"
    """Where nobody knows who asks: inference is ``refused``, or all who come over TCP have one user's budget together."""


class OutputsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What clients are told of a model's float outputs; drift is watched on what the model said."""

    decimals: Annotated[int, Meta(ge=0, le=15)] | None = None
    """Rounded to so many."""
    top_k: PositiveInt | None = None
    """Only so many, the largest of the last axis; the others become 0, or in a row with values below 0 its smallest one."""


class ServingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How models answer requests."""

    address: Address | None = None
    """``host:port`` where every model answers the Open Inference Protocol: loopback, or with ``serving.tls`` any address of the
    device. Each model also has a Unix socket of its own, ``models/<model>.sock`` in the runtime folder, which is faster."""
    hosts: tuple[HostName, ...] = ()
    """Names that clients may call ``serving.address`` by, beside itself and the loopback names; needs ``serving.tls``."""
    socket_group: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Group whose members may use the models' Unix sockets; the agent's user must be a member. Not set: its own group."""
    threads: PositiveInt = 1
    """Threads an inference may use."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 0
    """Niceness of the processes that run models; higher leaves the processor to others first. A candidate is measured with
    the same, so that its latency is the one it will have."""
    deadline_ms: Positive = 1_000.0
    """Deadline of a request that carries no ``timeout`` parameter, milliseconds."""
    maximum_body_bytes: PositiveInt = 16 * 1024 * 1024
    """A larger request is answered 413."""
    queue_depth: PositiveInt = 128
    """Requests that may wait for a model; more are answered 503 at once."""
    shared_memory: SharedMemoryAccess = "off"
    """Tensors in POSIX shared memory (``/dev/shm``). ``unix``: for clients of the Unix sockets, who may use regions they own.
    ``unix+tcp``: for the TCP addresses too, where nobody knows who asks: whoever reaches the port can have the runner read
    and write every region that the agent's user may."""
    drain_seconds: Positive = 30.0
    """How long a replaced runner waits for idle keep-alive clients."""
    load_timeout_seconds: Positive = 60.0
    """A runner that has not loaded its model by then is refused."""
    stuck_seconds: Positive = 30.0
    """A runner that says nothing for so long, or one inference that takes longer, is ended and replaced. Must be longer than
    ``deadline_ms``."""
    memory_reserve_mib: Annotated[float, Meta(ge=0, le=1e6)] = 32.0
    """A candidate is started beside the active release where its memory budget and this much more are free, MiB."""
    allow_gap: bool = True
    """Where that much is not free, the active release is stopped first, and clients are told 503 until the candidate serves or
    is refused (then the active one comes back). ``false``: the candidate is refused instead."""
    keep_standby: bool = True
    """Keep the smallest variant of each release beside the chosen one, to fall back to; false saves its file's room."""
    degrade_after_seconds: Positive = 60.0
    """A committed release that has broken its service level for so long, or whose runner has died again and again, is
    served by its smaller variant, where one is kept and passes its probe. A restart of the agent begins with the chosen
    variant."""
    restore_after_seconds: Positive = 600.0
    """The chosen variant comes back when the smaller one has served for so long without breaking the service level. Each
    return that does not hold for as long, and each probe that is not passed, doubles the time, up to 32 times."""
    tls: TlsConfig | None = None
    query_budget: QueryBudgetConfig | None = None
    query_budgets: dict[Name, QueryBudgetConfig] = {}
    """Of models that have their own, in place of ``serving.query_budget``."""
    outputs: dict[Name, OutputsConfig] = {}
    """Models whose answers are rounded or cut."""

    @property
    def tls_files(self) -> TlsFiles | None:
        """What :attr:`address` speaks TLS with."""
        tls = self.tls
        if tls is None:
            return None
        return TlsFiles(certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca)

    def notes(self) -> Iterator[str]:
        """What is allowed, and may still surprise."""
        if (
            self.address is not None
            and not is_loopback(self.address)
            and not (self.tls and self.tls.client_ca)
        ):
            yield (
                f"whoever reaches serving.address = {self.address!r} may ask every model; serving.tls.client_ca lets only"
                " clients with a certificate in"
            )
        for model, budget in self.query_budgets.items():
            if self.address is not None and budget.tcp == "refused":
                yield (
                    f"model {model} answers no inference at serving.address, because it has a query budget"
                    f" (serving.query_budgets.{model}.tcp = 'refused')"
                )

    def access(self, model: str) -> Access:
        """The walls of one model."""
        outputs = self.outputs.get(model, OutputsConfig())
        budget = self.query_budgets.get(model, self.query_budget)
        return Access(
            tls=self.tls_files,
            hosts=self.hosts,
            query_budget=None
            if budget is None
            else QueryBudget(rows_per_hour=budget.rows_per_hour, burst=budget.burst, tcp=budget.tcp),
            outputs=OutputLimits(decimals=outputs.decimals, top_k=outputs.top_k),
        )


class ProbeConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a candidate is proven before it serves."""

    warmup: PositiveInt = 10
    """Inferences before the timed ones."""
    repetitions: PositiveInt = 200
    """Timed single-row inferences."""
    timeout_seconds: Positive = 120.0
    """A probe that takes longer is a refusal."""


class TelemetryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is recorded and when it is sent."""

    outbox_bytes: PositiveInt = 32 * 1024 * 1024
    """Bound of records that wait for the hub; over it the least important are merged, then dropped and counted."""
    send_seconds: Positive = 5.0
    """Longest time an urgent record (a warning, drift, an error) waits before it is sent, when the hub is there."""
    gather_seconds: Positive = 60.0
    """The same for all other records, so that they go together; ten times as long while the default route goes by one of
    ``updates.metered_interfaces``, or while ``monthly_bytes`` get short."""
    monthly_bytes: PositiveInt | None = None
    """What telemetry may cost in a calendar month (UTC), both ways. As it gets short, waiting records are merged and the last
    tenth is kept for urgent ones (``docs/telemetry.md``). Not set: no limit."""
    over_budget: Literal["urgent", "nothing"] = "urgent"
    """What is sent when ``monthly_bytes`` are spent."""
    keep_bytes: Annotated[int, Meta(ge=1024 * 1024, le=2**53)] = 64 * 1024 * 1024
    """Bound of the device's own history (windows, verdicts, health, events) in ``telemetry.db``, without what waits for the
    hub; the oldest goes first."""
    keep_days: Positive = 90.0
    """Age at which the device's own history goes."""
    report_seconds: Positive = 60.0
    """Reported state is published at least this often."""
    checkpoint_seconds: Positive = 300.0
    """How often it is written to the disk how far the open drift windows are; what they count in between is lost in a power
    cut. A runner that dies by itself loses 5 s of them at most, of slices 22 s."""
    health_seconds: Positive = 300.0
    """Interval of health records."""


class TransferConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the files of releases reach the device. A network that is away is waited for, and is no failure."""

    order: Annotated[tuple[Literal["http", "mqtt"], ...], Meta(min_length=1, max_length=2)] = ("http", "mqtt")
    """Ways that may be used, the preferred one first: HTTP from the address that the hub names, or blocks over MQTT. Where one
    fails, the other goes on where it stopped."""
    small_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 256 * 1024
    """Files up to this size, bytes, come over MQTT first, where that is in ``order``: the connection is there already."""
    limit_bytes_per_second: Annotated[int, Meta(ge=1024, le=2**53)] | None = None
    """Of all transfers of the device together. Not set: as fast as they come."""
    minimum_bytes_per_second: Annotated[int, Meta(ge=0, le=2**53)] = 128
    """A way that brings less over ``stuck_seconds`` has failed. Must be less than ``limit_bytes_per_second``; 0: never."""
    stuck_seconds: Positive = 60.0
    """How long a way is looked at before it is called too slow."""
    tries: Annotated[int, Meta(ge=1, le=1000)] = 6
    """Failures of each way, without 256 KiB between them, before it is given up, and the release with the last of them."""
    backoff_seconds: Positive = 2.0
    """Shortest pause when no way works; it doubles from pause to pause, and a random part of up to a half is left out."""
    longest_backoff_seconds: Positive = 300.0
    """Longest pause; a server's own ``Retry-After`` counts up to an hour."""


class UpdatesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the device asks for before it downloads an update, and before it installs one (``docs/updates.md``)."""

    approval: Literal["automatic", "operator"] = "automatic"
    """``operator``: what was fetched waits until somebody on the device says ``edgeward accept``, for each deployment."""
    timezone: Annotated[str, Meta(min_length=1, max_length=64)] = "UTC"
    """IANA name of the zone whose wall clock ``windows`` are read by, for instance ``Europe/Berlin``."""
    windows: tuple[Annotated[str, Meta(pattern=WINDOW_PATTERN, description=WINDOW_FORM)], ...] = ()
    """Maintenance windows: updates are installed only while one is open, and one that has begun goes on to its end. Over
    midnight where the second time is not after the first. Empty: at any time."""
    downloads: Literal["any-time", "in-windows"] = "any-time"
    """When bytes are fetched."""
    metered: Literal["wait", "allow"] = "wait"
    """Whether downloads wait while the device's default route goes by one of ``metered_interfaces``."""
    metered_interfaces: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()
    """Names of network interfaces that cost by the byte; ``*`` and ``?`` are wildcards: ``wwan*``."""
    minimum_free_mib: Annotated[float, Meta(ge=0, le=1e9)] = 16.0
    """Room that must be free on the file system of ``state_dir``, for downloading and installing, MiB."""
    minimum_battery_percent: Annotated[float, Meta(ge=0, le=100)] = 20.0
    """Charge under which a device that is not plugged in installs nothing. A device without a battery is on mains."""
    maximum_temperature_c: Annotated[float, Meta(gt=0, le=200)] | None = None
    """Nothing is installed while the processor is hotter, °C. Not set, or where the kernel knows no temperature: at any."""


class SamplesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs that are kept on the device because they say most about what the model does not know (``docs/samples.md``).

    Off: nothing is copied and nothing kept. They lie in ``samples`` in the state folder, readable by the agent's user alone.
    """

    enabled: bool = False
    """Keep inputs: of what the models are asked, the whole input and the whole answer."""
    may_leave: bool = False
    """Let them go to the hub when an approver of the model has signed a request for them. Not set, they never do."""
    models: tuple[Name, ...] = ()
    """Only of these; empty: of every model."""
    reasons: Annotated[tuple[SampleReason, ...], Meta(min_length=1, max_length=3)] = (
        "low-confidence",
        "outside-reference",
        "over-represented",
    )
    """Why an input is kept: the model was unsure; a value lies outside the reference; a value lies where far more do than
    in the reference."""
    low_confidence_share: Annotated[float, Meta(gt=0, le=0.5)] = 0.02
    """Unsure is a model that is less confident than on all but this share of the reference's rows."""
    bytes: PositiveInt = 16 * 1024 * 1024
    """Bound of all samples together; over it the most common kind loses its least informative one."""
    count: PositiveInt = 500
    """Bound of their number."""
    sample_bytes: Annotated[int, Meta(ge=1, le=512 * 1024)] = 256 * 1024
    """An input that is larger, its answer included, is not kept."""
    days: Positive = 30.0
    """Older samples are deleted."""
    per_hour: Annotated[int, Meta(ge=1, le=3600)] = 60
    """Of each model, so that flash is written little; up to a sixth of them at once."""
    written_bytes_per_day: PositiveInt = 64 * 1024 * 1024
    """Of all models; flash wears out. Beyond it nothing is kept until a day has passed."""

    def notes(self) -> Iterator[str]:
        """What is allowed, and may still surprise."""
        if self.enabled:
            leaving = "and may leave when an approver asks" if self.may_leave else "and stay there"
            yield f"inputs of the models are kept on this device (samples.enabled), {leaving} (docs/samples.md)"
        elif self.may_leave:
            yield "samples.may_leave lets out what was kept before; samples.enabled = false keeps nothing new"

    def policy(self, model: str) -> SamplePolicy | None:
        """What a runner of ``model`` hands over."""
        if not self.enabled or (self.models and model not in self.models):
            return None
        return SamplePolicy(
            reasons=self.reasons,
            low_confidence_share=self.low_confidence_share,
            per_hour=self.per_hour,
            maximum_bytes=self.sample_bytes,
        )


class LabelsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What models said, kept so that labels that come later can be joined with it (``docs/labels.md``).

    Of requests that carry an ``id``, and never their inputs.
    """

    predictions_per_minute: Annotated[int, Meta(ge=0, le=60_000)] = 600
    """Rows of each model that are kept; more are counted and let go. 0: none are kept, and no label can be joined."""
    kept_predictions: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    """Bound of their number on the device; the oldest go first."""
    kept_bytes: PositiveInt = 16 * 1024 * 1024
    """Bound of their size in the database, as far as it can be told from a row's own bytes."""
    kept_days: Positive = 30.0
    """Older ones are deleted."""
    write_seconds: Positive = 60.0
    """They are written together this often, which spares flash; a power cut loses those of that time."""
    report_seconds: Positive = 60.0
    """The real accuracy is told to the hub this often at most, where labels have changed it."""
    http: LabelAccess = "unix"
    """Where clients may send labels: on the models' Unix sockets, on ``serving.address`` too, or nowhere (``off``). A label's
    ``origin`` is what its sender says. With ``unix+tcp`` that is whoever reaches the port: they can speak as a person, which
    outranks all systems, and switch estimates off."""


class PrivacyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the hub is told of counts (``docs/privacy.md``). The device itself keeps them as they are.

    A release may ask for this too; then the stricter of the two holds, and of two mechanisms the one that is set here.
    """

    counts: Literal["exact", "suppressed", "noised"] = "exact"
    """``suppressed``: small counts are hidden, and others with them, so that totals do not tell them. ``noised``: every count
    has noise, so that one row can't be told from another (differential privacy)."""
    minimum_count: Annotated[int, Meta(ge=3, le=1000)] = 5
    """Of ``suppressed``: the smallest count that is told."""
    epsilon: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    """Of ``noised``: how much one row of a window may tell, over all its signals together; less is more private, and noisier."""

    @property
    def policy(self) -> CountPrivacy | None:
        if self.counts == "exact":
            return None
        return CountPrivacy(mechanism=self.counts, minimum=self.minimum_count, epsilon=self.epsilon)


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important is not written."""
    format: Literal["auto", "json", "text"] = "auto"
    """``auto``: JSON, unless standard error is a terminal."""


class AgentConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    device: DeviceConfig
    serving: ServingConfig = field(default_factory=ServingConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    updates: UpdatesConfig = field(default_factory=UpdatesConfig)

    @property
    def state(self) -> Path:
        return Path(self.device.state_dir)

    @property
    def runtime(self) -> Path:
        return Path(self.device.runtime_dir)

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control.sock"


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of an :data:`Address`; an IPv6 host without its brackets."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool | None:
    """None where the host is not an address."""
    host, _ = host_and_port(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return None
