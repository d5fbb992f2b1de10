"""Once a minute: what the fleet says is laid beside the policies, and notices are brought up to date."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cloud_hub.config import HubConfig
from cloud_hub.database import Database
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.service import stored_manifest
from cloud_hub.retraining import notices, noticing, service
from cloud_hub.retraining.policy import expected_accuracy
from cloud_hub.retraining.service import Known, RequestView, Tell
from cloud_hub.telemetry.drift import HOUR, fleet_drift
from cloud_hub.telemetry.references import reference_digest
from cloud_hub.telemetry.rollup_models import NewestWindow
from cloud_hub.telemetry.views import ReleaseDrift
from cloud_hub.webhooks import service as webhooks

SECONDS = 60.0
"""Between two passes."""


class RetrainingKeeper:
    """Reads without holding the writer up, then decides and writes in one transaction."""

    def __init__(self, database: Database, artifacts: ArtifactStore, config: HubConfig) -> None:
        self._database = database
        self._artifacts = artifacts
        self._config = config
        self._at = 0.0

    def step(self, now: float) -> None:
        """A pass, if one is due."""
        if (
            now < self._at and self._at - now <= SECONDS
        ):  # a clock that was set back by more waits for nothing
            return
        self._at = now + SECONDS
        looked = self._database.read(lambda session: self._look(session, now))
        self._database.write(lambda session: self._settle(session, looked, now))

    def _look(
        self, session: Session, now: float
    ) -> tuple[list[tuple[ReleaseDrift, Known]], list[noticing.Found], list[noticing.DeviceFacts]]:
        drifts = fleet_drift(session, self._artifacts, now - self._config.telemetry.drift_hours * HOUR)
        devices = notices.device_facts(session)
        enrolled = {device.device for device in devices}
        newest = [
            each
            for each in notices.newest_facts(session, now - self._recently() * HOUR)
            if each.device in enrolled
        ]
        settings = self._config.notices
        labels = [
            facts for drift in drifts if (facts := notices.label_facts(session, drift, now)) is not None
        ]
        found = [
            *noticing.silent(devices, now, settings.silent_hours),
            *noticing.unjudged(newest, now, settings.insufficient_hours),
            *noticing.doubtful(newest),
            *noticing.contradicted(labels, now),
        ]
        return [(drift, self._known(session, drift)) for drift in drifts], found, devices

    def _recently(self) -> float:
        """Hours: a device that has sent nothing for longer is silent, and nothing else is said about it."""
        return max(self._config.notices.silent_hours, self._config.telemetry.drift_hours)

    def _known(self, session: Session, drift: ReleaseDrift) -> Known:
        manifest = stored_manifest(session, drift.model, drift.release, self._artifacts)
        return Known(
            expected=expected_accuracy([variant.accuracy for variant in manifest.variants])
            if manifest
            else None,
            reference_sha256=reference_digest(session, drift.model, drift.release, self._artifacts),
        )

    def _settle(
        self,
        session: Session,
        looked: tuple[list[tuple[ReleaseDrift, Known]], list[noticing.Found], list[noticing.DeviceFacts]],
        now: float,
    ) -> None:
        drifts, found, devices = looked
        tell = self.teller(session, now)
        service.close_overtaken(session, now, tell)
        served = newest_releases(session)
        seen = {(drift.model, drift.release) for drift, _ in drifts}
        service.close_left(session, served, seen, now, tell)
        for drift, known in drifts:
            if drift.release == served.get(drift.model):
                service.consider(session, drift, known, self._config.retraining, now, tell)
        lost = noticing.lost(devices, notices.told_before(session, "lost-telemetry"), now)
        undelivered = noticing.undelivered(webhooks.failures(session), now)
        notices.reconcile(session, noticing.everything(found, lost, undelivered), now, tell)

    def teller(self, session: Session, now: float) -> Tell:
        """What queues events for webhooks, in the transaction of ``session``."""

        def tell(event: str, data: object) -> None:
            request = data.id if event == "retraining-requested" and isinstance(data, RequestView) else None
            webhooks.queue(session, self._config.webhooks, event, data, now, request=request)

        return tell


def newest_releases(session: Session) -> dict[str, int]:
    """Model → the release that most devices sent their newest windows of; of two, the newer one."""
    row = NewestWindow
    last = (
        select(row.device, row.model, func.max(row.received).label("received"))
        .where(row.slice == "")
        .group_by(row.device, row.model)
        .subquery()
    )
    query = (
        select(row.model, row.release, func.count())
        .join(
            last,
            (row.device == last.c.device) & (row.model == last.c.model) & (row.received == last.c.received),
        )
        .where(row.slice == "")
        .group_by(row.model, row.release)
    )
    most: dict[str, tuple[int, int]] = {}
    for model, release, count in session.execute(query):
        most[model] = max(most.get(model, (0, 0)), (count, release))
    return {model: release for model, (_, release) in most.items()}
