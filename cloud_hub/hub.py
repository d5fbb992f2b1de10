"""The parts of a running hub, wired once."""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.orm import Session

from agent.protocol.enrolment import BrokerAddress
from cloud_hub.approvals.service import Drafting, settle
from cloud_hub.bridge.counters import BridgeCounters
from cloud_hub.config import HubConfig, Paths
from cloud_hub.database import Database
from cloud_hub.devices.authority import DeviceAuthority
from cloud_hub.devices.service import Enroller, revoked_certificates
from cloud_hub.downloads.locations import LocationKey
from cloud_hub.downloads.service import Downloads
from cloud_hub.errors import ConflictError
from cloud_hub.fleet.expiry import note_expiry
from cloud_hub.labels import service as labels
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.retraining.keeper import RetrainingKeeper
from cloud_hub.rollouts import passing
from cloud_hub.rollouts.documents import Signing
from cloud_hub.samples.keeping import anything_waits, forget_old, take_in
from cloud_hub.samples.service import devices_with_offers
from cloud_hub.signing.director import Director
from cloud_hub.signing.documents import stamp
from cloud_hub.signing.errors import SigningError
from cloud_hub.signing.expiry import Life, certificate_lives, lives
from cloud_hub.signing.own_keys import OwnKeys, director_signer, online_signer
from cloud_hub.signing.publication import complete_root
from cloud_hub.signing.repository import Repository
from cloud_hub.signing.store import FolderMetadataStore
from cloud_hub.telemetry.keeper import RollUpKeeper
from cloud_hub.telemetry.retention import RetentionKeeper
from cloud_hub.webhooks.keeper import WebhookKeeper

log = logging.getLogger(__name__)

OFFER_SECONDS = 300.0
"""Between two offers of a request for samples to a device that is connected and has not answered."""


class Publisher(Protocol):
    """Where desired states go; the MQTT bridge."""

    @property
    def connected(self) -> bool: ...
    def publish_desired(self, device: str) -> None: ...
    def offer_samples(self, device: str) -> None: ...
    def offer_labels(self, device: str) -> None: ...


class Hub:
    """Everything that requests and messages work with. Metadata is read from its files at each request."""

    def __init__(self, config: HubConfig, paths: Paths, *, now: Callable[[], float] = time.time) -> None:
        self.config = config
        self.paths = paths
        self.now = now
        self.started = now()
        self.database = Database(paths.database)
        self.artifacts = ArtifactStore(config.artifacts or paths.artifacts)
        self.metadata = FolderMetadataStore(paths.metadata)
        keys = OwnKeys(paths.online_keys)
        self.repository = Repository(
            self.metadata,
            online_signer(keys, self.metadata),
            now=lambda: datetime.fromtimestamp(now(), UTC),
        )
        self.director_signing = Signing(
            director=Director(director_signer(keys, self.metadata)), days=config.trust.director_days
        )
        self.drafting = Drafting(
            repository=self.repository, days=config.trust.draft_days, signing=self.director_signing
        )
        broker = config.broker
        self.enroller = Enroller(
            authority=DeviceAuthority(paths.authority),
            broker=BrokerAddress(
                host=broker.device_host or broker.host, port=broker.port, tls=broker.tls is not None
            ),
            certificate_days=config.enrolment.certificate_days,
        )
        self.downloads = Downloads(
            config.downloads,
            LocationKey.open(paths.online_keys),
            self.artifacts,
            self.database,
            now=now,
        )
        self.roll_ups = RollUpKeeper(self.database, self.artifacts)
        self.retention = RetentionKeeper(
            self.database, raw_days=config.telemetry.raw_days, rollup_days=config.telemetry.rollup_days
        )
        self.retraining = RetrainingKeeper(self.database, self.artifacts, config)
        self.webhooks = WebhookKeeper(self.database, config.webhooks, now=now)
        self.counters = BridgeCounters()
        self._unasked: dict[str, float] = {}
        self._samples_at = 0.0
        self._labels_at = 0.0
        self.publisher: Publisher | None = None

    def root(self) -> bytes:
        """The trusted root; raises ConflictError before the first ceremony."""
        data = self.metadata.get("root.json")
        if data is None:
            raise ConflictError("there is no trusted root yet; hold a ceremony: edgeward-hub ceremony create")
        return data

    def write_revocations(self) -> None:
        """Bring ``authority/revoked.pem`` up to date; on the writer thread, so that the newest list is written last."""
        now = self.now()
        authority = self.enroller.authority
        self.database.write(lambda session: authority.write_revoked(revoked_certificates(session, now), now))

    def publish(self, devices: tuple[str, ...]) -> None:
        """Publish desired states that were committed; what cannot go out now goes out at the next connect."""
        if self.publisher is not None:
            for device in devices:
                self.publisher.publish_desired(device)

    def offer_samples(self, devices: Iterable[str]) -> None:
        """Offer devices the requests for samples that they have not answered; who is away is offered them when it connects."""
        if self.publisher is not None:
            for device in devices:
                self.publisher.offer_samples(device)

    def keep_samples(self) -> None:
        """Take in what devices sent by request, delete what is too old, and offer again what was not answered in minutes."""
        now = self.now()
        while self.database.read(anything_waits):
            self.database.write(lambda session: take_in(session, now, self._unasked))
        if now >= self._samples_at:
            self._samples_at = now + OFFER_SECONDS
            days = self.config.samples.keep_days
            self.database.write(lambda session: forget_old(session, days, now))
            self.offer_samples(self.database.read(lambda session: devices_with_offers(session, now)))

    def offer_labels(self, devices: Iterable[str]) -> None:
        """Send devices the labels that wait for them; who is away is sent them when it connects."""
        if self.publisher is not None:
            for device in devices:
                self.publisher.offer_labels(device)

    def keep_labels(self) -> None:
        """Send again what was not acknowledged within minutes, give up what was not within weeks."""
        now = self.now()
        if now >= self._labels_at:
            self._labels_at = now + OFFER_SECONDS
            self.database.write(lambda session: labels.keep(session, now))
            self.offer_labels(self.database.read(labels.devices_with_deliveries))

    def tick(self) -> None:
        """Rollouts move on, documents are renewed, drafts whose base is gone are made anew."""
        now = self.now()

        def work(session: Session) -> tuple[str, ...]:
            try:
                settle(session, self.drafting, now)
            except SigningError:  # metadata that can't be read must not stop rollouts
                log.exception("drafts can't be looked at")
            return passing.tick(session, signing=self.director_signing, now=now)

        self.publish(self.database.write(work))

    def keep_telemetry(self) -> bool:
        """Bring up to date what is made of telemetry; whether there is more to do."""
        more = self.roll_ups.step(self.now())
        self.retraining.step(self.now())
        self.retention.step(self.now())
        return more

    def recover(self) -> None:
        """Finish what a crash cut short.

        Raises:
            KeyFileError: the hub lacks a key of its own that the repository names.
        """
        complete_root(self.metadata)
        if self.metadata.get("timestamp.json") is not None:
            self.repository.check_key()
            _ = self.director_signing.director.keyid
            now = self.now()
            self.database.write(lambda session: settle(session, self.drafting, now))

    def lives(self) -> tuple[Life, ...]:
        """Until when roles and certificates hold."""
        now = datetime.fromtimestamp(self.now(), UTC)
        tls = self.config.broker.tls
        certificates = certificate_lives(
            self.enroller.authority.expires, None if tls is None else tls.certificate, now
        )
        roles = lives(self.metadata, self.repository, draft_days=self.config.trust.draft_days, now=now)
        return (*roles, *certificates)

    def note_expiry(self) -> None:
        """Log what runs out soon, and write it into the audit log once a version and severity."""
        soon = [life for life in self.lives() if life.severity is not None]
        for life in soon:
            details = {"expires": stamp(datetime.fromtimestamp(life.expires, UTC)), "to_do": life.command}
            log.warning("expires soon", extra={"what": life.name, "who": life.who, **details})
        if soon:
            self.database.write(lambda session: note_expiry(session, soon, self.now()))

    def refresh_timestamp(self) -> None:
        """Sign a new timestamp, once there is a repository; on the writer thread, as every publication."""
        if self.metadata.get("timestamp.json") is not None:
            self.database.write(lambda _session: self.repository.refresh_timestamp())

    def close(self) -> None:
        self.webhooks.close()
        self.database.close()
