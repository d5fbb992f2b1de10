"""Once a minute: what the fleet says is laid beside the policies, and notices are brought up to date."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from agent.protocol.words import one_line
from cloud_hub.config import HubConfig
from cloud_hub.database import Database
from cloud_hub.labels.accuracy import unusable_labels
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.service import stored_manifest
from cloud_hub.retraining import notices, noticing, service
from cloud_hub.retraining.policy import expected_accuracy
from cloud_hub.retraining.service import Known, RequestView, Tell
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.drift import HOUR, fleet_drift
from cloud_hub.telemetry.references import reference_digest
from cloud_hub.telemetry.rollup_models import NewestWindow
from cloud_hub.telemetry.views import ReleaseDrift
from cloud_hub.webhooks import service as webhooks

T = TypeVar("T")

log = logging.getLogger(__name__)

SECONDS = 60.0
"""Between two passes."""
WORDS = 300
RETRAINING, CONTRADICTED = "retraining", "estimate-contradicted"
_OF_WINDOWS = ("insufficient-data", "unusable-windows", "verdict-disagrees")


class Looked(Struct, frozen=True, kw_only=True):
    """What a pass has read."""

    drifts: list[tuple[ReleaseDrift, Known]] | None
    """None: that could not be read, and nothing follows from it."""
    found: list[noticing.Found]
    devices: list[noticing.DeviceFacts]
    failed: dict[str, str]
    """Kind of notice, or ``retraining`` → why it could not be looked for."""


class _Guard:
    """Lets each look fail by itself: one device's record must not silence all other notices."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    def look(self, kinds: tuple[str, ...], look: Callable[[], Iterable[T]]) -> list[T]:
        try:
            return list(look())
        except SQLAlchemyError:
            raise  # the database's trouble is everybody's; the next pass tries again
        except Exception as error:
            log.exception("looking for notices failed", extra={"kinds": kinds})
            why = one_line(f"{type(error).__name__}: {error}")[:WORDS]
            self.failed.update(dict.fromkeys(kinds, why))
            return []


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

    def _look(self, session: Session, now: float) -> Looked:
        guard = _Guard()
        settings = self._config.notices
        since = now - self._config.telemetry.drift_hours * HOUR
        week = now - notices.LABEL_DAYS * DAY
        devices = notices.device_facts(session)
        drifts = guard.look((RETRAINING, CONTRADICTED), lambda: self._drifts(session, since))
        newest = guard.look(_OF_WINDOWS, lambda: self._newest(session, devices, now))
        looks: list[tuple[tuple[str, ...], Callable[[], list[noticing.Found]]]] = [
            (("silent-device",), lambda: noticing.silent(devices, now, settings.silent_hours)),
            (
                ("insufficient-data",),
                lambda: noticing.unjudged(newest, now, settings.insufficient_hours),
            ),
            (("incomplete-windows",), lambda: self._broken(session, devices, now)),
            (("unusable-windows", "verdict-disagrees"), lambda: noticing.doubtful(newest)),
            (("unusable-labels",), lambda: noticing.unusable(unusable_labels(session, week), now)),
            *(((CONTRADICTED,), partial(self._contradicted, session, drift, now)) for drift, _ in drifts),
        ]
        found = [each for kinds, look in looks for each in guard.look(kinds, look)]
        return Looked(
            drifts=None if RETRAINING in guard.failed else drifts,
            found=found,
            devices=devices,
            failed=guard.failed,
        )

    def _drifts(self, session: Session, since: float) -> list[tuple[ReleaseDrift, Known]]:
        return [
            (drift, self._known(session, drift)) for drift in fleet_drift(session, self._artifacts, since)
        ]

    def _newest(
        self, session: Session, devices: list[noticing.DeviceFacts], now: float
    ) -> list[noticing.NewestFacts]:
        enrolled = {device.device for device in devices}
        newest = notices.newest_facts(session, now - self._recently() * HOUR)
        return [each for each in newest if each.device in enrolled]

    def _broken(
        self, session: Session, devices: list[noticing.DeviceFacts], now: float
    ) -> list[noticing.Found]:
        enrolled = {device.device for device in devices}
        hours = self._config.notices.insufficient_hours
        facts = notices.broken_facts(session, now, hours)
        return noticing.broken([each for each in facts if each.device in enrolled], now, hours)

    def _contradicted(self, session: Session, drift: ReleaseDrift, now: float) -> list[noticing.Found]:
        facts = notices.label_facts(session, drift, now)
        return noticing.contradicted([facts], now) if facts is not None else []

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

    def _settle(self, session: Session, looked: Looked, now: float) -> None:
        tell = self.teller(session, now)
        service.close_overtaken(session, now, tell)
        if looked.drifts is not None:
            served = newest_releases(session)
            seen = {(drift.model, drift.release) for drift, _ in looked.drifts}
            service.close_left(session, served, seen, now, tell)
            for drift, known in looked.drifts:
                if drift.release == served.get(drift.model):
                    service.consider(session, drift, known, self._config.retraining, now, tell)
        lost = noticing.lost(looked.devices, notices.told_before(session, "lost-telemetry"), now)
        undelivered = noticing.undelivered(webhooks.failures(session), now)
        failed = noticing.failed(looked.failed, now)
        found = noticing.everything(looked.found, lost, undelivered, failed)
        notices.reconcile(session, found, now, tell, unknown=looked.failed)

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
