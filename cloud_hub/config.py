"""``hub.toml``: one typed file, every setting with its default.

A setting that is unknown or not allowed is refused with its name, its value and what is allowed.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from agent.protocol.ids import Name
from agent.protocol.settings import wrong_setting
from cloud_hub.database_url import check_url
from cloud_hub.errors import ConfigError
from cloud_hub.retraining.policy import RetrainingPolicy
from cloud_hub.retraining.settings import NoticeSettings
from cloud_hub.webhooks.settings import WebhookSettings, settings_problem

Port = Annotated[int, Meta(ge=1, le=65535)]
PositiveSeconds = Annotated[float, Meta(gt=0, le=1e9)]
Days = Annotated[int, Meta(ge=1, le=3650)]
FEWEST_RAW_DAYS = 8
"""A day more than after which a device gives a record that waited a new number (agent/store/outbox.py)."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class ServerSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``: where the REST API and the page are served."""

    host: str = "127.0.0.1"
    """A loopback address; put a TLS proxy before it to serve others."""
    port: Port = 8500
    """TCP port of the API and the page."""


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
    """Start a broker in the hub's process; false: connect to one that runs elsewhere."""
    host: str = "127.0.0.1"
    """Where the broker is; loopback for the embedded one, which knows no identities."""
    port: Port = 8510
    """TCP port of the broker."""
    device_host: str | None = None
    """The address devices are told at enrolment; default: ``host``."""
    tls: BrokerTls | None = None
    """Only for an external broker."""


class TrustSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[trust]``: lifetimes of what the hub signs or drafts."""

    draft_days: Annotated[int, Meta(ge=1, le=90)] = 60
    """Expiry of a model's role: what a stolen hub can go on listing."""
    director_days: Annotated[int, Meta(ge=1, le=90)] = 30
    """Expiry of a device's desired state; renewed when half of it has passed."""
    bundle_days: Annotated[int, Meta(ge=1, le=90)] = 30
    """How long a bundle can be installed: life of the timestamp in it, of its snapshot and of its devices' documents."""
    timestamp_refresh_seconds: PositiveSeconds = 3600.0
    """How often the timestamp role is signed anew, so that devices can tell a frozen hub."""


class EnrolmentSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[enrolment]``: what a device is given when it enrols."""

    certificate_days: Days = 365
    """Lifetime of a device's client certificate."""


class RolloutSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[rollouts]``: defaults of a rollout that names none, and the engine's pace."""

    tick_seconds: PositiveSeconds = 1.0
    """How often the engine looks at the rollouts."""
    stage_timeout_seconds: PositiveSeconds = 3600.0
    """A stage whose devices have not all reported by then pauses the rollout."""


class IngestSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[ingest]``: who takes the devices' telemetry."""

    serve: bool = True
    """``edgeward-hub serve`` does it too; false: ``edgeward-hub ingest``, in processes of its own, does it alone."""


class TelemetrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[telemetry]``: what is made of the devices' records."""

    drift_hours: PositiveSeconds = 24.0
    """Only windows that were received within this time count for the fleet's drift."""
    raw_days: Days = 400
    """Windows and other records are kept so long, 8 days or more, then forgotten; the daily roll-ups stay."""
    rollup_days: Days = 1825
    """Daily roll-ups are kept so long."""


class SampleSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[samples]``: inputs that approvers asked devices for (``docs/samples.md``)."""

    keep_days: Days = 30
    """Deleted from here after so long."""


class ModelSigningSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[model_signing]``: whose OpenSSF model signatures count when a release is submitted. Relative paths start at hub.toml."""

    keys: tuple[str, ...] = ()
    """Public keys of those who make models, PEM (elliptic curve)."""
    authorities: tuple[str, ...] = ()
    """Roots, PEM; a signature by a certificate under one of them counts."""
    required: bool = False
    """Refuse a release without one. A signature that is given must hold in any case."""


class LimitSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``: what an upload may cost."""

    artifact_mib: Annotated[int, Meta(ge=1, le=16_384)] = 512
    """Largest file of a release."""


class DownloadSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[downloads]``: artifacts for devices over HTTPS, beside the blocks over MQTT."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s?#]+$(?!\n)", max_length=512)] | None = None
    """The address at which devices reach this hub's artifacts, ``https://hub.example.org:8443``. Not set: they are told of none,
    and fetch over MQTT. A store that signs URLs itself (``artifacts``) needs none."""
    host: str = "0.0.0.0"  # noqa: S104 - it has TLS, and serves nothing but what a signed URL names
    """Where the listener for devices listens."""
    port: Port | None = None
    """TCP port of a listener for devices: HTTPS (HTTP/2 and HTTP/1.1), signed artifacts and nothing else. Not set: none; a TLS
    proxy passes ``/v1/artifacts/`` on to ``[server]``."""
    certificate: str | None = None
    """PEM of the listener's certificate and its chain, relative to hub.toml; default: one of the hub's own authority for the
    host in ``url``, which devices trust, made anew at each start."""
    key: str | None = None
    """Its private key, PEM."""
    location_seconds: Annotated[float, Meta(ge=1, le=604_800)] = 3600.0
    """How long a device may use an address that it was told; it asks for another one then."""
    parallel: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """Downloads at a time; more are answered 503."""
    parallel_per_device: Annotated[int, Meta(ge=1, le=1000)] = 4
    """Of one device, or of one person; more are answered 429."""


class DashboardSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[dashboard]``: the page for people."""

    title: Annotated[str, Meta(min_length=1, max_length=80)] = "Edgeward"
    """Shown at the top of the page."""
    open_on_loopback: bool = False
    """Show the page without a token to a browser on this machine."""


class LogSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``: logs go to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important is not written."""
    format: Literal["json", "text"] = "json"
    """JSON lines for a service manager, or text."""


class HubConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Paths in it start at the folder it stands in."""

    name: Name = "hub"
    """Names the hub to the broker: its MQTT client id is ``edgeward-<name>``."""
    data: str = "."
    """Folder of database, artifacts, metadata and keys."""
    artifacts: Annotated[str, Meta(pattern=r"^(s3|gs|az)://[^\s]+$(?!\n)")] | None = None
    """Object store of the releases' files, ``s3://bucket/path``, ``gs://…`` or ``az://…``; its credentials come from the
    environment. Devices fetch from there by URLs that it signs. Default: the folder ``artifacts`` in ``data``."""
    database: str | None = None
    """PostgreSQL, ``postgresql+psycopg://user@host:5432/name``; its password comes from the environment (``PGPASSWORD``), from
    ``~/.pgpass`` or from the file that ``?passfile=`` names. Default: SQLite, the file ``hub.db`` in ``data``."""
    server: ServerSettings = ServerSettings()
    broker: BrokerSettings = BrokerSettings()
    trust: TrustSettings = TrustSettings()
    enrolment: EnrolmentSettings = EnrolmentSettings()
    rollouts: RolloutSettings = RolloutSettings()
    ingest: IngestSettings = IngestSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    retraining: RetrainingPolicy = RetrainingPolicy()
    notices: NoticeSettings = NoticeSettings()
    webhooks: WebhookSettings = WebhookSettings()
    samples: SampleSettings = SampleSettings()
    model_signing: ModelSigningSettings = ModelSigningSettings()
    limits: LimitSettings = LimitSettings()
    downloads: DownloadSettings = DownloadSettings()
    dashboard: DashboardSettings = DashboardSettings()
    log: LogSettings = LogSettings()


class Paths(Struct, frozen=True, kw_only=True):
    """Where things stand: under the hub's data folder, but for a database of PostgreSQL."""

    data: Path
    url: str | None = None
    """PostgreSQL's."""

    @property
    def database(self) -> Path | str:
        """The SQLite file, or PostgreSQL's URL."""
        return self.data / "hub.db" if self.url is None else self.url

    @property
    def ingest_lock(self) -> Path:
        """Held by the one process that ingests into SQLite."""
        return self.data / "ingest.lock"

    @property
    def artifacts(self) -> Path:
        """Files of releases by the SHA-256 of their bytes."""
        return self.data / "artifacts"

    @property
    def metadata(self) -> Path:
        """Published TUF metadata, plain files."""
        return self.data / "metadata"

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
    return _absolute(config, folder), Paths(data=(folder / config.data).resolve(), url=config.database)


def parse_config(text: str, source: str = "hub.toml") -> HubConfig:
    """Check TOML text; raises like :func:`load_config`."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    problem = wrong_setting(raw, HubConfig)
    if problem:
        raise ConfigError(f"{source}: {problem}")
    config = msgspec.convert(raw, HubConfig)
    _check(config, source)
    return config


def _check(config: HubConfig, source: str) -> None:
    if config.database is not None:
        try:
            check_url(config.database)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
    if config.broker.embedded and not config.ingest.serve:
        raise ConfigError(
            f"{source}: ingest.serve = false: the embedded broker shares nothing out; set broker.embedded = false"
        )
    if config.broker.embedded and config.broker.host not in LOOPBACK:
        raise ConfigError(
            f"{source}: broker.host = {config.broker.host!r}: the embedded broker knows no identities, so it "
            f"listens on loopback only; allowed: {', '.join(sorted(LOOPBACK))}, or broker.embedded = false"
        )
    if config.broker.embedded and config.broker.tls is not None:
        raise ConfigError(
            f"{source}: broker.tls: the embedded broker has no TLS; set broker.embedded = false"
        )
    _check_downloads(config.downloads, source)
    problem = settings_problem(config.webhooks)
    if problem is not None:
        raise ConfigError(f"{source}: {problem}")
    if config.telemetry.raw_days < FEWEST_RAW_DAYS:
        raise ConfigError(
            f"{source}: telemetry.raw_days = {config.telemetry.raw_days}: at least {FEWEST_RAW_DAYS}; devices give a record that "
            "waited for a week a new number, and a hub that forgets sooner takes late ones for duplicates"
        )
    if config.telemetry.rollup_days < config.telemetry.raw_days:
        raise ConfigError(
            f"{source}: telemetry.rollup_days = {config.telemetry.rollup_days}: less than telemetry.raw_days, "
            f"{config.telemetry.raw_days}; roll-ups stand for what is forgotten"
        )
    if config.server.host not in LOOPBACK:
        raise ConfigError(
            f"{source}: server.host = {config.server.host!r}: the API speaks plain HTTP, so it listens on loopback "
            f"only (put a TLS proxy before it); allowed: {', '.join(sorted(LOOPBACK))}"
        )


def _check_downloads(downloads: DownloadSettings, source: str) -> None:
    url = downloads.url
    if url is not None and url.startswith("http://") and urlsplit(url).hostname not in LOOPBACK:
        raise ConfigError(
            f"{source}: downloads.url = {url!r}: devices fetch over https:// (http:// on loopback alone)"
        )
    if downloads.port is not None and (url is None or not url.startswith("https://")):
        raise ConfigError(
            f"{source}: downloads.port = {downloads.port}: devices must be told where that is; set downloads.url to https://…"
        )
    if (downloads.certificate is None) != (downloads.key is None):
        raise ConfigError(f"{source}: downloads.certificate and downloads.key: set both or none")


def _absolute(config: HubConfig, folder: Path) -> HubConfig:
    signing = config.model_signing
    signing = msgspec.structs.replace(
        signing,
        keys=tuple(str(folder / path) for path in signing.keys),
        authorities=tuple(str(folder / path) for path in signing.authorities),
    )
    config = msgspec.structs.replace(config, model_signing=signing)
    if config.webhooks.secret_file is not None:
        secret = str(folder / config.webhooks.secret_file)
        config = msgspec.structs.replace(
            config, webhooks=msgspec.structs.replace(config.webhooks, secret_file=secret)
        )
    downloads = config.downloads
    if downloads.certificate is not None and downloads.key is not None:
        downloads = msgspec.structs.replace(
            downloads, certificate=str(folder / downloads.certificate), key=str(folder / downloads.key)
        )
        config = msgspec.structs.replace(config, downloads=downloads)
    tls = config.broker.tls
    if tls is None:
        return config
    found = BrokerTls(
        authority=str(folder / tls.authority),
        certificate=str(folder / tls.certificate),
        key=str(folder / tls.key),
    )
    return msgspec.structs.replace(config, broker=msgspec.structs.replace(config.broker, tls=found))
