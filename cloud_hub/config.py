"""``hub.toml``: one typed file, every setting with its default.

A setting that is unknown or not allowed is refused with its name, its value and what is allowed.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agent.protocol.ids import Name
from cloud_hub.errors import ConfigError

Port = Annotated[int, Meta(ge=1, le=65535)]
PositiveSeconds = Annotated[float, Meta(gt=0)]
Days = Annotated[int, Meta(ge=1, le=3650)]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: where the REST API and the page are served."""

    host: str = "127.0.0.1"
    port: Port = 8500


class BrokerTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[broker.tls]``: files for an external broker; a relative path starts at hub.toml."""

    authority: str
    """PEM of the authority that signed the broker's certificate."""
    certificate: str
    """The hub's own client certificate, PEM."""
    key: str
    """Its private key, PEM."""


class BrokerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[broker]``: the MQTT broker, embedded (loopback only) or external."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 8510
    device_host: str | None = None
    """The address devices are told at enrolment; default: ``host``."""
    tls: BrokerTls | None = None


class TrustSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[trust]``: lifetimes of what the hub signs or drafts."""

    draft_days: Annotated[int, Meta(ge=1, le=90)] = 60
    """Expiry of a model's role: what a stolen hub can go on listing."""
    director_days: Annotated[int, Meta(ge=1, le=90)] = 30
    """Expiry of a device's desired state; renewed when half of it has passed."""
    timestamp_refresh_seconds: PositiveSeconds = 3600.0


class EnrolmentSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[enrolment]``."""

    certificate_days: Days = 365
    """Lifetime of a device's client certificate."""


class RolloutSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[rollouts]``: defaults of a rollout that names none, and the engine's pace."""

    tick_seconds: PositiveSeconds = 1.0
    stage_timeout_seconds: PositiveSeconds = 3600.0
    """A stage whose devices have not all reported by then pauses the rollout."""


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[telemetry]``."""

    drift_hours: PositiveSeconds = 24.0
    """Only windows that closed within this time count for the fleet's drift."""


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``."""

    artifact_mib: Annotated[int, Meta(ge=1, le=16_384)] = 512
    """Largest file of a release."""


class DashboardSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[dashboard]``."""

    title: Annotated[str, Meta(min_length=1, max_length=80)] = "Edgeward"
    open_on_loopback: bool = False
    """Show the page without a token to a browser on this machine."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class HubConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Paths in it start at the folder it stands in."""

    name: Name = "hub"
    data: str = "."
    """Folder of database, artifacts, metadata and keys."""
    server: ServerSettings = ServerSettings()
    broker: BrokerSettings = BrokerSettings()
    trust: TrustSettings = TrustSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    rollouts: RolloutSettings = RolloutSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    limits: LimitSettings = LimitSettings()
    dashboard: DashboardSettings = DashboardSettings()
    log: LogSettings = LogSettings()


class Paths(Struct, frozen=True, kw_only=True):
    """Where things stand under the hub's data folder."""

    data: Path

    @property
    def database(self) -> Path:
        return self.data / "hub.db"

    @property
    def artifacts(self) -> Path:
        """Files of releases by the SHA-256 of their bytes."""
        return self.data / "artifacts"

    @property
    def metadata(self) -> Path:
        """Published TUF metadata, plain files."""
        return self.data / "metadata"

    @property
    def drafts(self) -> Path:
        """One open draft a model: ``<model>.json``."""
        return self.data / "drafts"

    @property
    def online_keys(self) -> Path:
        return self.data / "keys" / "online"

    @property
    def authority(self) -> Path:
        """The device CA: ``ca.pem``, ``ca.key``."""
        return self.data / "authority"


def load_config(path: Path) -> tuple[HubConfig, Paths]:
    """Read ``hub.toml``.

    Raises:
        ConfigError: no such file, not TOML, or a setting that is not allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; make one with: edgeward-hub init DIR") from error
    config = parse_config(text, str(path))
    folder = path.resolve().parent
    return _absolute(config, folder), Paths(data=(folder / config.data).resolve())


def parse_config(text: str, source: str = "hub.toml") -> HubConfig:
    """Check TOML text; raises like :func:`load_config`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    try:
        config = msgspec.convert(raw, HubConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(raw, str(error))}") from error
    _check(config, source)
    return config


def _check(config: HubConfig, source: str) -> None:
    if config.broker.embedded and config.broker.host not in LOOPBACK:
        raise ConfigError(
            f"{source}: broker.host = {config.broker.host!r}: the embedded broker knows no identities, so it "
            f"listens on loopback only; allowed: {', '.join(sorted(LOOPBACK))}, or broker.embedded = false"
        )
    if config.broker.embedded and config.broker.tls is not None:
        raise ConfigError(
            f"{source}: broker.tls: the embedded broker has no TLS; set broker.embedded = false"
        )
    if config.server.host not in LOOPBACK:
        raise ConfigError(
            f"{source}: server.host = {config.server.host!r}: the API speaks plain HTTP, so it listens on loopback "
            f"only (put a TLS proxy before it); allowed: {', '.join(sorted(LOOPBACK))}"
        )


def _explain(raw: dict[str, Any], message: str) -> str:
    """Put the setting's name and value before msgspec's rule."""
    rule, _, where = message.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `([^`]+)`", rule)
    if unknown:
        name = f"{path}.{unknown[1]}" if path else unknown[1]
        return f"{name}: there is no such setting; allowed here: {', '.join(_known(path))}"
    if not path:
        return rule
    value: Any = raw
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return f"{path} = {value!r}: {rule}"


def _known(path: str) -> list[str]:
    kind: Any = HubConfig
    for part in filter(None, path.split(".")):
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == part)
        kind = next((arm for arm in getattr(kind, "__args__", ()) if arm is not type(None)), kind)
    return [field.name for field in msgspec.structs.fields(kind)]


def _absolute(config: HubConfig, folder: Path) -> HubConfig:
    tls = config.broker.tls
    if tls is None:
        return config
    found = BrokerTls(
        authority=str(folder / tls.authority),
        certificate=str(folder / tls.certificate),
        key=str(folder / tls.key),
    )
    return msgspec.structs.replace(config, broker=msgspec.structs.replace(config.broker, tls=found))
