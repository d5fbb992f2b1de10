"""Tables of telemetry."""

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base

_BESIDE_ITS_KEY = {"sqlite_with_rowid": False}
"""One tree instead of two in SQLite: rows are small, and are found by their key alone."""

_SAMPLES = "kind IN ('sample', 'sample-answer') AND body IS NOT NULL"
"""What :mod:`cloud_hub.samples` has not moved yet."""


ACCURACY = "kind = 'accuracy'"
"""What :mod:`cloud_hub.labels` reads. A query has to say it in these words: SQLite takes the index for no parameter."""


class TelemetryRecord(Base):
    """One record, by the device's own key: a second copy of it finds the first one here."""

    __tablename__ = "telemetry"
    __table_args__ = (
        Index(
            "telemetry_samples",
            "received",
            sqlite_where=text(_SAMPLES),
            postgresql_where=text(_SAMPLES),
        ),
        Index(
            "telemetry_accuracy",
            "received",
            sqlite_where=text(ACCURACY),
            postgresql_where=text(ACCURACY),
        ),
        _BESIDE_ITS_KEY,
    )

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    received: Mapped[float]
    body: Mapped[bytes | None]
    """See :mod:`cloud_hub.telemetry.bodies`; None: it is a window and stands in :class:`DriftWindowRow`."""


class DriftWindowRow(Base):
    """A drift window, of which :class:`TelemetryRecord` has the key alone."""

    __tablename__ = "drift_windows"
    __table_args__ = (
        Index("drift_windows_by_device", "device", "model", "closed"),
        Index(
            "drift_windows_not_merged",
            "received",
            sqlite_where=text("NOT merged_in"),
            postgresql_where=text("NOT merged_in"),
        ),
    )

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    release: Mapped[int]
    slice: Mapped[str]
    """``parameter=value``; empty: the whole."""
    artifact: Mapped[str]
    opened: Mapped[float]
    closed: Mapped[float]
    received: Mapped[float]
    rows: Mapped[int]
    level: Mapped[str]
    alarm: Mapped[str | None]
    """Level of the alarm that the device has raised."""
    incomplete: Mapped[bool]
    merged_in: Mapped[bool]
    """Roll-ups count it. Who ingests writes false."""
    window: Mapped[bytes]
    """:class:`agent.protocol.drift.DriftWindow`; see :mod:`cloud_hub.telemetry.bodies`."""


class TelemetryMark(Base):
    """Up to here the records of an epoch may have been forgotten: what comes at or under it was here, and is not stored again."""

    __tablename__ = "telemetry_marks"
    __table_args__ = _BESIDE_ITS_KEY

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    low_water: Mapped[int]


class TelemetryTally(Base):
    """How many records were stored, also of those that were forgotten since: to be laid beside the device's own ledger."""

    __tablename__ = "telemetry_tally"
    __table_args__ = _BESIDE_ITS_KEY

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    records: Mapped[int]


class TelemetryConflict(Base):
    """A device sent another record under a key that was taken: its database was copied, or somebody has its key."""

    __tablename__ = "telemetry_conflicts"

    device: Mapped[str] = mapped_column(primary_key=True)
    conflicts: Mapped[int]
    epoch: Mapped[str]
    sequence: Mapped[int]
    """Of the newest one."""
    newest: Mapped[float]
    audited: Mapped[float]
    """When the audit log last told of it; not more often than daily."""
