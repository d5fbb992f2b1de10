"""Tables of telemetry."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class TelemetryRecord(Base):
    """One record, by the device's own key: a second copy of it finds the first one here."""

    __tablename__ = "telemetry"

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    received: Mapped[float]
    body: Mapped[bytes]
    """The record's body as JSON."""


class DriftWindowRow(Base):
    """A drift window, beside its record, to be asked for by model and time."""

    __tablename__ = "drift_windows"
    __table_args__ = (Index("drift_windows_by_model", "model", "release", "closed"),)

    device: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str]
    release: Mapped[int]
    artifact: Mapped[str]
    opened: Mapped[float]
    closed: Mapped[float]
    received: Mapped[float]
    rows: Mapped[int]
    level: Mapped[str]
    window: Mapped[bytes]
    """:class:`agent.protocol.drift.DriftWindow` as JSON."""
