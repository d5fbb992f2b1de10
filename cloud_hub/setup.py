"""Make a new hub: configuration, keys, device authority, database, the first admin."""

import time
from contextlib import closing
from pathlib import Path

from msgspec import Struct
from sqlalchemy.orm import Session

from cloud_hub.access.service import Role, create_token
from cloud_hub.audit.service import record
from cloud_hub.config import load_config, parse_config
from cloud_hub.database import Database
from cloud_hub.devices.authority import create_authority, write_private
from cloud_hub.errors import ConflictError
from cloud_hub.signing.keys import create_key
from cloud_hub.signing.own_keys import DIRECTOR_KEY, ONLINE_KEY

ADMIN = "admin"
_EXAMPLE = "postgresql+psycopg://edgeward@db.example/edgeward"

_TOML = """\
# The Edgeward hub. Every setting is shown; those behind a # have the value that is shown by default.

name = "hub"
# data = "."                          # folder of database, artifacts, metadata and keys
# artifacts = "s3://bucket/path"      # object store of the releases' files; default: the folder artifacts in data
{database}  # default: SQLite, hub.db in data; docs/ingest.md

[server]
host = "{host}"
port = {port}

[broker]
embedded = true                       # loopback only; for a fleet: false, and the broker's address and TLS files
host = "{host}"
port = {broker_port}
# device_host = "hub.example"         # the address that devices are told at enrolment
# [broker.tls]                        # relative paths start at this file
# authority = "tls/ca.pem"
# certificate = "tls/hub.pem"
# key = "tls/hub.key"

[trust]
# draft_days = 60                     # 1-90: expiry of a model's role
# director_days = 30                  # 1-90: expiry of a device's desired state; renewed at half of it
# bundle_days = 30                    # 1-90: how long a bundle can be installed
# timestamp_refresh_seconds = 3600.0

[enrolment]
# certificate_days = 365              # lifetime of a device's client certificate

[rollouts]
# tick_seconds = 1.0
# stage_timeout_seconds = 3600.0      # a stage without all its outcomes by then pauses the rollout

[ingest]
# serve = true                        # false: only edgeward-hub ingest, in processes of its own, takes telemetry

[telemetry]
# drift_hours = 24.0                  # windows received within this time count for the fleet's drift
# raw_days = 400                      # windows and other records are kept so long, then forgotten
# rollup_days = 1825                  # daily roll-ups are kept so long

[retraining]                          # when drift makes a request to retrain; a model may have a policy of its own
# enabled = true
# level = "drift"                     # or "warning"
# signals = []                        # only where one of these moved; default: any
# share = 0.2                         # of the devices that have a verdict, and
# devices = 3                         # so many at least, and
# hours = 24.0                        # for so long
# accuracy_loss = 0.05                # or: the estimated accuracy lies so far under the release's evaluation
# calm_hours = 24.0                   # a request ends by itself after so long without

[notices]
# silent_hours = 24.0                 # no telemetry of a device for so long
# insufficient_hours = 72.0           # no verdict for so long, for want of rows

[webhooks]                            # retraining requests and notices for other systems; docs/fleet-drift.md
# urls = ["https://ci.example/edgeward"]
# secret_file = "webhook.secret"      # signs them; one line, 32 characters or more
# attempts = 12
# queue = 1000                        # events that may wait
# timeout_seconds = 10.0

[samples]
# keep_days = 30                      # inputs that approvers asked for are deleted after so long

[model_signing]                       # whose OpenSSF model signatures count when a release is submitted
# keys = ["signers/lab.pem"]          # public keys
# authorities = ["signers/root.pem"]  # roots of certificates
# required = false                    # true: no release without one

[limits]
# artifact_mib = 512                  # largest file of a release

[downloads]                           # artifacts for devices over HTTPS; without it they fetch over MQTT
# url = "https://hub.example:8443"    # as devices reach it
# host = "0.0.0.0"
# port = 8443                         # the hub's own listener; leave it out where a TLS proxy passes /v1/artifacts/ on
# certificate = "tls/downloads.pem"   # default: one of the hub's own authority
# key = "tls/downloads.key"
# location_seconds = 3600.0
# parallel = 200
# parallel_per_device = 4

[dashboard]
# title = "Edgeward"
open_on_loopback = {open_dashboard}             # show the page without a token to a browser on this machine

[log]
# level = "info"                      # debug, info, warning, error
# format = "json"                     # json, text
"""


class NewHub(Struct, frozen=True, kw_only=True):
    config: Path
    admin_token: str
    """Seen this once, and in ``admin.token`` (mode 0600)."""


def create_hub(
    folder: Path,
    *,
    host: str,
    port: int,
    broker_port: int,
    open_dashboard: bool,
    database: str | None = None,
) -> NewHub:
    """Fill a new folder; ``database`` is PostgreSQL's URL, None: SQLite in the folder.

    Raises:
        ConflictError: there is a hub in it already.
        ConfigError: a port, a host or the database's URL is not allowed, or PostgreSQL does not answer.
    """
    path = folder / "hub.toml"
    if path.exists():
        raise ConflictError(f"{path} exists already; a hub is made once")
    text = _TOML.format(
        host=host,
        port=port,
        broker_port=broker_port,
        open_dashboard=str(open_dashboard).lower(),
        database=f'database = "{database}"' if database else f'# database = "{_EXAMPLE}"',
    )
    parse_config(text, "the command's options")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(text, encoding="utf-8")
    _config, paths = load_config(path)
    now = time.time()
    create_authority(paths.authority, now)
    create_key(paths.online_keys, ONLINE_KEY)
    create_key(paths.online_keys, DIRECTOR_KEY)
    paths.metadata.mkdir(exist_ok=True)
    paths.artifacts.mkdir(exist_ok=True)
    token = new_token(paths.database, name=ADMIN, role=Role.ADMIN)
    write_private(folder / "admin.token", token.encode() + b"\n")
    return NewHub(config=path, admin_token=token)


def new_token(place: Path | str, *, name: str, role: Role) -> str:
    """Make a bearer token in the database of a hub (:attr:`Paths.database`), running or not.

    Raises:
        InputError, ConflictError: see :func:`create_token`.
    """
    with closing(Database(place)) as database:
        database.migrate()
        now = time.time()

        def work(session: Session) -> str:
            token = create_token(session, name=name, role=role, now=now)
            record(session, now=now, actor="cli", action="token-create", subject=name, role=role)
            return token

        return database.write(work)
