"""Tables of what is made of telemetry: the newest window of each device, and daily roll-ups, so that no page scans raw windows."""

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class NewestWindow(Base):
    """The newest complete window of one device, model, release and slice, as the hub judges it."""

    __tablename__ = "drift_newest"
    __table_args__ = (Index("drift_newest_by_release", "model", "release", "slice", "received"),)

    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    """"" is the whole."""
    epoch: Mapped[str]
    sequence: Mapped[int]
    opened: Mapped[float]
    closed: Mapped[float]
    """By the device's clock."""
    received: Mapped[float]
    """By the hub's."""
    rows: Mapped[int]
    level: Mapped[str]
    """The hub's verdict; "" where it has no reference to judge by."""
    claimed: Mapped[str]
    """The device's own."""
    alarm: Mapped[str]
    """Level of the device's alarm; "" where it sent none."""
    level_since: Mapped[float]
    """When the first of the windows without a break came that had ``level``."""
    body: Mapped[bytes]
    """:class:`cloud_hub.telemetry.rollup_bodies.NewestBody`."""


class DeviceDay(Base):
    """All windows of one device, model, release and slice that belong to one day (UTC), added up."""

    __tablename__ = "drift_days"
    __table_args__ = (
        Index(
            "drift_days_map",
            "model",
            "release",
            "slice",
            "day",
            "device",
            "level",
            "rows",
            "windows",
            "psi",
            "alarms",
            "incomplete_windows",
        ),
        Index("drift_days_by_day", "day"),
    )

    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    """Days since 1970-01-01."""
    windows: Mapped[int]
    """Added up here; those of ``incomplete_windows`` that had counts are among them."""
    rows: Mapped[int]
    incomplete_windows: Mapped[int]
    incomplete_rows: Mapped[int]
    unusable: Mapped[int]
    """Windows whose counts could not be added, ``problem`` says why of the last one."""
    ok: Mapped[int]
    """Windows by the device's own verdict, this and the next three."""
    warning: Mapped[int]
    drift: Mapped[int]
    insufficient: Mapped[int]
    alarms: Mapped[int]
    """Windows under an alarm of drift."""
    late: Mapped[int]
    """Windows that came more than a day after they were closed."""
    opened: Mapped[float]
    closed: Mapped[float]
    level: Mapped[str]
    """The hub's verdict on the sum; "" until it is judged, or where there is no reference."""
    psi: Mapped[float]
    """Of the signal that moved most."""
    estimate_rows: Mapped[int]
    accuracy: Mapped[float | None]
    """Estimated without labels, weighted by rows."""
    low: Mapped[float | None]
    high: Mapped[float | None]
    problem: Mapped[str | None]
    judged: Mapped[bool]
    """False: windows were added since ``level`` was found."""
    body: Mapped[bytes]
    """Counts by signal: :class:`cloud_hub.telemetry.rollup_bodies.CountsBody`."""


class FleetDay(Base):
    """One day of a release and slice over the fleet; made from the devices' days."""

    __tablename__ = "drift_fleet_days"
    __table_args__ = (
        Index(
            "drift_fleet_days_dirty", "computed", sqlite_where=text("dirty"), postgresql_where=text("dirty")
        ),
    )

    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    slice: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[int] = mapped_column(primary_key=True)
    dirty: Mapped[bool]
    """Windows were added to a device's day since it was made."""
    changes: Mapped[int]
    """Times that windows were added; what was made from an older state does not clear ``dirty``."""
    computed: Mapped[float]
    """When it was made, in the hub's time; before that, so that its turn comes by when its first window came."""
    level: Mapped[str]
    raw_level: Mapped[str]
    devices: Mapped[int]
    rows: Mapped[int]
    windows: Mapped[int]
    incomplete_windows: Mapped[int]
    incomplete_rows: Mapped[int]
    unusable: Mapped[int]
    left_out: Mapped[int]
    psi: Mapped[float]
    accuracy: Mapped[float | None]
    body: Mapped[bytes]
    """:class:`cloud_hub.telemetry.rollup_bodies.FleetDayBody`."""
