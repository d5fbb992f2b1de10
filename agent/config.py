"""The agent's configuration: one TOML file, typed, with a default for every setting that can have one.

``docs/configuration.md`` is made from these structs: the docstring below a field is its meaning there.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct, field

from agent.errors import ConfigError
from agent.protocol.ids import Name
from agent.protocol.runner import SharedMemoryAccess
from agent.protocol.settings import wrong_setting

MAX_PORT = 65_535
Address = Annotated[str, Meta(pattern=r"^[^:\s]+:[0-9]{1,5}$(?!\n)", description="host:port")]
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
    """Bound of all model files together, bytes."""


class ServingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How models answer requests."""

    address: Address | None = None
    """Loopback ``host:port`` where every model answers the Open Inference Protocol. Each also has a Unix socket of its own,
    ``models/<model>.sock`` in the runtime folder, which is faster."""
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
    """Bound of records that wait for the hub; over it the least important are dropped and counted."""
    send_seconds: Positive = 5.0
    """Longest time a record waits before it is sent, when the hub is there."""
    report_seconds: Positive = 60.0
    """Reported state is published at least this often."""
    health_seconds: Positive = 300.0
    """Interval of health records."""


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
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def state(self) -> Path:
        return Path(self.device.state_dir)

    @property
    def runtime(self) -> Path:
        return Path(self.device.runtime_dir)

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control.sock"


def load_config(path: Path) -> AgentConfig:
    """Read and check the configuration file.

    Raises:
        ConfigError: it can't be read, is not TOML, or a setting is wrong; the text names the setting, its value
            and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from error
    return parse_config(text, source=str(path))


def parse_config(text: str, *, source: str) -> AgentConfig:
    """Check the text of a configuration file; raises like :func:`load_config`."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    problem = wrong_setting(raw, AgentConfig)
    if problem:
        raise ConfigError(f"{source}: {problem}")
    config = msgspec.convert(raw, AgentConfig)
    _check_patience(config, source)
    _check_address(config, source)
    return config


def _check_patience(config: AgentConfig, source: str) -> None:
    """A request may take as long as its deadline."""
    deadline, stuck = config.serving.deadline_ms / 1e3, config.serving.stuck_seconds
    if stuck <= deadline:
        raise ConfigError(
            f"{source}: serving.stuck_seconds = {stuck:g}: must be more than serving.deadline_ms, {deadline:g} s"
        )


def _check_address(config: AgentConfig, source: str) -> None:
    """A port within TCP's bounds."""
    address = config.serving.address
    if address is not None and not 1 <= int(address.rpartition(":")[2]) <= MAX_PORT:
        raise ConfigError(f"{source}: serving.address = {address!r}: the port must be 1-{MAX_PORT}")
