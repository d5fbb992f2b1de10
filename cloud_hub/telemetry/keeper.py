"""Keeps the roll-ups behind what is ingested: a pass every second, in short transactions, so that ingest never waits long."""

import logging
from collections import Counter

import msgspec
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from agent.protocol.drift import DriftReference
from cloud_hub.database import Database
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.models import Release
from cloud_hub.telemetry import arriving, fleet_days, rollups
from cloud_hub.telemetry.references import reference_of

log = logging.getLogger(__name__)

BATCHES_A_PASS = 40
DAYS_A_PASS = 8
TROUBLE = (OperationalError, InterfaceError, MemoryError, OSError)
"""Of the machine or the database, not of a window: it is tried again."""


class RollUpKeeper:
    """Takes windows in, and makes the fleet's days anew."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    def step(self, now: float, *, at_least: float = rollups.FLEET_SECONDS) -> bool:
        """One pass; whether there is more to do. ``at_least``: seconds between two makings of the same fleet's day."""
        more = self._take_in()
        keys = self._database.read(
            lambda session: fleet_days.stale(session, now, at_least=at_least, limit=DAYS_A_PASS)
        )
        for key in keys:
            self._make(key, now)
        return more or len(keys) == DAYS_A_PASS

    def _take_in(self) -> bool:
        for _ in range(BATCHES_A_PASS):
            arrived, unreadable = self._database.read(
                lambda session: arriving.waiting(session, rollups.BATCH)
            )
            found = len(arrived) + len(unreadable)
            self._take(arrived, unreadable)
            if found < rollups.BATCH:
                return False
        return True

    def _take(self, arrived: list[arriving.Arrived], unreadable: list[arriving.SetAside]) -> None:
        """All in one transaction, or where that fails by halves: one window alone can't stop the others."""
        if not arrived and not unreadable:
            return
        try:
            batch = self._database.read(
                lambda session: rollups.prepare(session, self._references(session), arrived, unreadable)
            )
            self._database.write(lambda session: rollups.take_in(session, batch))
        except (*TROUBLE, rollups.TakenElsewhereError):
            raise
        except Exception as error:
            if len(arrived) > 1:
                middle = len(arrived) // 2
                self._take(arrived[:middle], unreadable)
                self._take(arrived[middle:], [])
                return
            log.exception("a window can't be taken in and is set aside")
            self._set_aside([arriving.aside(each, f"it can't be taken in: {error}") for each in arrived])
            self._set_aside(unreadable)
        else:
            _tell(batch.set_aside)

    def _set_aside(self, members: list[arriving.SetAside]) -> None:
        """Count it, or where even that fails only mark it."""
        try:
            self._database.write(lambda session: rollups.take_in(session, rollups.only_aside(members)))
        except (*TROUBLE, rollups.TakenElsewhereError):
            raise
        except Exception:
            log.exception("a window that was set aside can't be counted")
            unseen = [msgspec.structs.replace(each, counted=False) for each in members]
            self._database.write(lambda session: rollups.take_in(session, rollups.only_aside(unseen)))
        _tell(members)

    def _references(self, session: Session) -> rollups.ReferenceOf:
        def find(model: str, release: int) -> DriftReference | str | None:
            if session.get(Release, (model, release)) is None:
                return None
            return reference_of(session, model, release, self._artifacts)

        return find

    def _make(self, key: fleet_days.FleetDayKey, now: float) -> None:
        try:
            made = self._database.read(
                lambda session: fleet_days.make(session, key, self._references(session))
            )
            self._database.write(lambda session: fleet_days.keep(session, made, now))
        except TROUBLE:
            raise
        except Exception:
            log.exception(
                "a fleet's day can't be made", extra={"day": f"{key.model} {key.release} {key.day}"}
            )
            self._database.write(lambda session: fleet_days.postpone(session, key, now))


def _tell(members: list[arriving.SetAside]) -> None:
    """One line a device and reason: that is all that is kept of releases that nobody made."""
    for (device, why), count in Counter((each.device, each.why) for each in members).items():
        log.warning("drift windows were set aside", extra={"device": device, "why": why, "count": count})
