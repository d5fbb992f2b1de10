"""Until when each role holds, who must sign it anew, and with which command; and when it is time to say so."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from msgspec import Struct
from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from agent.protocol.ids import UnixTime
from cloud_hub.signing.documents import read
from cloud_hub.signing.publication import published_set
from cloud_hub.signing.repository import Repository
from cloud_hub.signing.store import MetadataStore
from cloud_hub.signing.trust_set import Holders

OFFLINE_WARNING = timedelta(days=60)
"""Root and targets: their holders have to be found and to find a day, with tokens that may lie in a safe."""
OFFLINE_ALARM = timedelta(days=14)
MODEL_WARNING = timedelta(days=21)
"""A model's role: one approver may be on holiday; of a role that lives shorter, a third of its life."""
MODEL_ALARM = timedelta(days=7)
SNAPSHOT_ALARM = timedelta(days=4)
"""The hub signs it anew when half of its fourteen days are over; below this, it does not."""
TIMESTAMP_ALARM = timedelta(hours=12)
"""The hub signs it anew every hour or so."""
AUTHORITY_WARNING = timedelta(days=365)
"""With a new authority every device has to be enrolled again, as it comes by."""
CERTIFICATE_WARNING = timedelta(days=30)


class Life(Struct, frozen=True, kw_only=True):
    """One role or certificate that runs out."""

    name: str
    """A role, or ``the device authority's certificate`` and the like."""
    version: int | None
    """Of a role."""
    expires: UnixTime
    who: str
    """Who renews it, in words."""
    command: str
    """With which command; or that nothing is to be done."""
    severity: Literal["error", "warning"] | None
    """None: there is time."""


def lives(
    store: MetadataStore, repository: Repository, *, draft_days: int, now: datetime
) -> tuple[Life, ...]:
    """Every role, in the order of trust; none before the first ceremony."""
    if store.get("timestamp.json") is None:
        return ()
    trust = published_set(store)
    found = [
        _life(role, trust.document(role).signed, _people("root holders", trust.root_holders),
              f"edgeward-hub ceremony renew --role {role} --key …", OFFLINE_WARNING, OFFLINE_ALARM, now)
        for role in (Root.type, Targets.type)
    ]  # fmt: skip
    third = timedelta(days=draft_days) / 3
    warning, alarm = min(MODEL_WARNING, third), min(MODEL_ALARM, third / 2)
    for model, document in trust.models.items():
        who = _people("approvers", trust.holders(model))
        command = f"edgeward-hub approve {model} --renew …"
        found.append(_life(model, document.signed, who, command, warning, alarm, now))
    snapshot = read(repository.published(Snapshot.type), Snapshot, Snapshot.type).signed
    timestamp = read(repository.published(Timestamp.type), Timestamp, Timestamp.type).signed
    by_itself = "nothing to do while edgeward-hub serve runs"
    found.append(
        _life(Snapshot.type, snapshot, "the hub, by itself", by_itself, SNAPSHOT_ALARM, SNAPSHOT_ALARM, now)
    )
    found.append(
        _life(
            Timestamp.type, timestamp, "the hub, by itself", by_itself, TIMESTAMP_ALARM, TIMESTAMP_ALARM, now
        )
    )
    return tuple(found)


def certificate_lives(authority: float, hub_certificate: str | None, now: datetime) -> tuple[Life, ...]:
    """The hub's authority (Unix seconds), and the hub's own certificate on the broker (a PEM file), if it has one.

    The broker's certificate is made by the same command for the same time; devices' own are shown with the devices.
    """
    found = [
        _judged(
            "the device authority's certificate", None, authority, "an admin", "a new hub, and every device enrolled again",
            AUTHORITY_WARNING, CERTIFICATE_WARNING, now,
        )
    ]  # fmt: skip
    if hub_certificate is not None and Path(hub_certificate).exists():
        certificate = x509.load_pem_x509_certificate(Path(hub_certificate).read_bytes())
        expires = certificate.not_valid_after_utc.timestamp()
        command = "edgeward-hub broker-files --out NEW_FOLDER … (packaging/mosquitto/README.md)"
        name = "the hub's certificate on the broker (and the broker's own)"
        found.append(
            _judged(
                name, None, expires, "an admin", command, CERTIFICATE_WARNING, CERTIFICATE_WARNING / 4, now
            )
        )
    return tuple(found)


def _people(what: str, holders: Holders) -> str:
    return f"{holders.threshold} of the {what} {', '.join(holders.names)}"


def _life(
    role: str,
    signed: Root | Targets | Snapshot | Timestamp,
    who: str,
    command: str,
    warning: timedelta,
    alarm: timedelta,
    now: datetime,
) -> Life:
    return _judged(role, signed.version, signed.expires.timestamp(), who, command, warning, alarm, now)


def _judged(
    name: str,
    version: int | None,
    expires: float,
    who: str,
    command: str,
    warning: timedelta,
    alarm: timedelta,
    now: datetime,
) -> Life:
    left = expires - now.timestamp()
    severity: Literal["error", "warning"] | None = None
    if left < alarm.total_seconds():
        severity = "error"
    elif left < warning.total_seconds():
        severity = "warning"
    return Life(name=name, version=version, expires=expires, who=who, command=command, severity=severity)
