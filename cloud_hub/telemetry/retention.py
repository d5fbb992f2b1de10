"""Forget what is old, a little at a time: raw records after ``raw_days``, roll-ups after ``rollup_days``.

Records of an epoch are forgotten from the lowest sequence on, and a low-water mark takes their place: what comes at or under it
was here before, and is neither stored nor counted a second time. A window that no roll-up has taken in is never forgotten.
"""

from collections.abc import Iterator

from msgspec import Struct
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from cloud_hub.database import Database
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryMark, TelemetryRecord, TelemetryTally
from cloud_hub.telemetry.rollup_models import DeviceDay, FleetDay, NewestWindow

BATCH = 1_000
"""Records, or days, that one transaction deletes."""
SECONDS = 3_600.0
"""Between two passes."""


class Old(Struct, frozen=True, kw_only=True):
    """Records of one epoch that can be forgotten: those from the lowest sequence up to ``until``."""

    device: str
    epoch: str
    until: int
    records: int


class RetentionKeeper:
    """Forgets, when a pass is due, one batch a transaction, so that ingest never waits long."""

    def __init__(self, database: Database, *, raw_days: int, rollup_days: int) -> None:
        self._database = database
        self._raw_days = raw_days
        self._rollup_days = rollup_days
        self._at = 0.0

    def step(self, now: float) -> int:
        """A pass, if one is due; how many records were forgotten."""
        if (
            now < self._at and self._at - now <= SECONDS
        ):  # a clock that was set back by more waits for nothing
            return 0
        self._at = now + SECONDS
        forgotten = 0
        for device, epoch in self._database.read(epochs):
            for old in self._batches(device, epoch, now - self._raw_days * DAY):
                forgotten += old.records
        day = int((now - self._rollup_days * DAY) // DAY)
        while self._database.write(lambda session: forget_days(session, day, BATCH)):
            pass
        self._database.write(lambda session: forget_newest(session, now - self._rollup_days * DAY))
        return forgotten

    def _batches(self, device: str, epoch: str, before: float) -> Iterator[Old]:
        while (old := self._database.read(lambda session: find(session, device, epoch, before))) is not None:
            self._database.write(lambda session: forget(session, old))
            yield old


def epochs(session: Session) -> list[tuple[str, str]]:
    """Every device's epochs."""
    query = select(TelemetryTally.device, TelemetryTally.epoch).distinct()
    return [(device, epoch) for device, epoch in session.execute(query)]


def find(session: Session, device: str, epoch: str, before: float, limit: int = BATCH) -> Old | None:
    """The records of an epoch, from the lowest sequence on, that all came before ``before`` and are in the roll-ups."""
    record, window = TelemetryRecord, DriftWindowRow
    query = select(record.sequence, record.received).where(record.device == device, record.epoch == epoch)
    query = query.order_by(record.sequence)
    oldest = session.execute(query.limit(1)).first()
    if oldest is None or oldest.received >= before:
        return None
    until, records = 0, 0
    for sequence, received in session.execute(query.limit(limit)):
        if received >= before:
            break
        until, records = sequence, records + 1
    if not records:
        return None
    waits = session.scalar(
        select(func.min(window.sequence)).where(
            window.device == device,
            window.epoch == epoch,
            window.sequence <= until,
            window.merged_in.is_(False),
        )
    )
    if waits is None:
        return Old(device=device, epoch=epoch, until=until, records=records)
    until = waits - 1
    records = (
        session.scalar(
            select(func.count()).where(
                record.device == device, record.epoch == epoch, record.sequence <= until
            )
        )
        or 0
    )
    return Old(device=device, epoch=epoch, until=until, records=records) if records else None


def forget(session: Session, old: Old) -> None:
    """Raise the mark, and delete what is under it, in the caller's transaction."""
    mark = session.get(TelemetryMark, (old.device, old.epoch))
    if mark is None:
        mark = TelemetryMark(device=old.device, epoch=old.epoch, low_water=0)
        session.add(mark)
    mark.low_water = max(mark.low_water, old.until)
    for table in (TelemetryRecord, DriftWindowRow):
        session.execute(
            delete(table).where(
                table.device == old.device, table.epoch == old.epoch, table.sequence <= old.until
            )
        )


def forget_days(session: Session, before: int, limit: int) -> int:
    """Delete daily roll-ups of days before ``before`` (days since 1970-01-01); how many devices' days were deleted."""
    row = DeviceDay
    columns = (row.device, row.model, row.release, row.slice, row.day)
    keys = [tuple(key) for key in session.execute(select(*columns).where(row.day < before).limit(limit))]
    for start in range(0, len(keys), 150):  # of a statement's 999 values, five a key
        session.execute(delete(row).where(tuple_(*columns).in_(keys[start : start + 150])))
    if not keys:
        session.execute(delete(FleetDay).where(FleetDay.day < before))
    return len(keys)


def forget_newest(session: Session, before: float) -> None:
    """Delete the newest windows of devices and releases that have sent none for as long as roll-ups are kept."""
    session.execute(delete(NewestWindow).where(NewestWindow.received < before))
