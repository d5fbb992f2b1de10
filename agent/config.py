"""The agent's configuration: one TOML file, typed, with a default for every setting that can have one.

``docs/configuration.md`` lists the settings; a test keeps it complete.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from agent.errors import ConfigError
from agent.protocol.ids import Name

Address = Annotated[str, Meta(pattern=r"^[^:\s]+:[0-9]{1,5}$", description="host:port")]
PositiveInt = Annotated[int, Meta(gt=0)]
Positive = Annotated[float, Meta(gt=0)]

T = TypeVar("T")


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

    tcp: dict[Name, Address] = {}
    """Model → loopback ``host:port`` for the Open Inference Protocol. Every model also has a Unix socket."""
    threads: PositiveInt = 1
    """Threads an inference may use."""
    deadline_ms: Positive = 1_000.0
    """Deadline of a request that carries no ``timeout`` parameter, milliseconds."""
    maximum_body_bytes: PositiveInt = 16 * 1024 * 1024
    """A larger request is answered 413."""
    drain_seconds: Positive = 30.0
    """How long a replaced runner waits for idle keep-alive clients."""
    load_timeout_seconds: Positive = 60.0
    """A runner that has not loaded its model by then is refused."""


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
        raw = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    try:
        config = msgspec.convert(raw, AgentConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_with_value(str(error), raw)}") from error
    for model, address in config.serving.tcp.items():
        port = int(address.rpartition(":")[2])
        if not 1 <= port <= 65_535:  # noqa: PLR2004 - TCP's own bounds
            raise ConfigError(f"{source}: serving.tcp.{model} = {address!r}: the port must be 1-65535")
    return config


def _with_value(message: str, raw: object) -> str:
    """Put the setting's name and value before msgspec's words (`… - at `$.a.b``)."""
    match = re.search(r" - at `(?:key in )?\$\.?([^`]*)`$", message)
    if match is None:
        return message
    path, what = match.group(1), message[: match.start()]
    value = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not path:
        return what
    shown = "" if isinstance(value, dict) or value is None else f" = {value!r}"
    return f"{path}{shown}: {what}"
