"""Keeps the roll-ups behind what is ingested: a pass every second, in short transactions, so that ingest never waits long."""

from sqlalchemy.orm import Session

from cloud_hub.database import Database
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.telemetry import fleet_days, rollups
from cloud_hub.telemetry.references import reference_of

BATCHES_A_PASS = 40
DAYS_A_PASS = 8
FLEET_SECONDS = 60.0
"""A fleet's day is not made anew more often than that."""


class RollUpKeeper:
    """Takes windows in, and makes the fleet's days anew."""

    def __init__(self, database: Database, artifacts: ArtifactStore) -> None:
        self._database = database
        self._artifacts = artifacts

    def step(self, now: float, *, at_least: float = FLEET_SECONDS) -> bool:
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
            batch = self._database.read(lambda session: rollups.look(session, self._references(session)))
            if batch.arrived:
                self._database.write(lambda session: rollups.take_in(session, batch))  # noqa: B023 - it is awaited
            if len(batch.arrived) < rollups.BATCH:
                return False
        return True

    def _references(self, session: Session) -> rollups.ReferenceOf:
        return lambda model, release: reference_of(session, model, release, self._artifacts)

    def _make(self, key: fleet_days.FleetDayKey, now: float) -> None:
        made = self._database.read(lambda session: fleet_days.make(session, key, self._references(session)))
        self._database.write(lambda session: fleet_days.keep(session, made, now))
