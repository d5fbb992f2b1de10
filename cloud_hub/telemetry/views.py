"""What is read of telemetry: the structs of API and pages.

Levels are the device's own words: ``ok``, ``warning``, ``drift``, ``insufficient data``. Every verdict here was made on
the hub, from counts and the release's signed reference, by the device's own code. A slice is "" for the whole.
"""

from msgspec import Struct

from agent.protocol.drift import (
    AccuracyEstimate,
    Alarm,
    DriftReference,
    SignalCounts,
    SignalVerdict,
    Verdict,
    VerdictLevel,
)
from agent.protocol.ids import UnixTime


class LeftOut(Struct, frozen=True, kw_only=True):
    """A device that does not count in the fleet's robust verdict."""

    device: str
    signal: str | None
    """In which it stands apart most; None where its counts can't be used at all."""
    distance: float
    """Hellinger's, 0 to 1, from the fleet's median distribution."""
    usual: float
    """The median device's."""
    rows: int
    why: str


class FleetVerdict(Struct, frozen=True, kw_only=True):
    """A verdict over devices, robust and raw: a poisoned or broken device can turn the raw one alone."""

    level: VerdictLevel
    """Of the robust one."""
    robust: Verdict
    """Without those that stand apart, and no device with more say than the median one."""
    raw: Verdict
    """Of everything added up."""
    signals: dict[str, SignalVerdict]
    """Statistics behind ``robust``."""
    devices: int
    """That sent usable counts."""
    rows: int
    """Of all of them, as they claim."""
    cap: int
    """Rows that a device brings into the robust merge at most."""
    capped: int
    """Devices that had more."""
    left_out: tuple[LeftOut, ...] = ()
    split: bool = False
    """More devices stand apart than the robust verdict bears (a third): the fleet is not of one kind."""
    text: str
    """In words, with who was left out."""


class DeviceDrift(Struct, frozen=True, kw_only=True):
    """The newest window of one device; a merge hides a single sick device, so it stands by itself."""

    device: str
    epoch: str = ""
    sequence: int = 0
    """The window's key, with ``device`` and ``epoch``."""
    slice: str
    opened: UnixTime
    closed: UnixTime
    received: UnixTime
    rows: int
    level: str
    """The hub's verdict; "" where there is no reference to judge by."""
    claimed: str
    """The device's own."""
    verdict: Verdict | None
    alarm: Alarm | None
    estimate: AccuracyEstimate | None
    estimate_off: str | None
    left_out: bool = False
    problem: str | None = None
    """Why its counts can't be used."""
    signals: dict[str, SignalCounts] = {}
    """Only of those that are told in detail (:data:`cloud_hub.telemetry.drift.DETAILED`)."""


class FleetEstimate(Struct, frozen=True, kw_only=True):
    """Accuracy without labels over the devices that are not left out, none with more say than the median one."""

    accuracy: float
    low: float
    high: float
    level: float
    devices: int


class SliceLine(Struct, frozen=True, kw_only=True):
    """One slice of a release."""

    slice: str
    level: str
    devices: int
    rows: int
    estimate: FleetEstimate | None
    text: str


class ReleaseDrift(Struct, frozen=True, kw_only=True):
    """One release over the fleet: each device's newest window, merged, and the devices beside it."""

    model: str
    release: int
    slice: str
    level: str
    """Of the robust fleet verdict; "" where there is none."""
    rows: int
    fleet: FleetVerdict | None
    """None when it cannot be judged; ``problem`` says why."""
    problem: str | None
    devices: tuple[DeviceDrift, ...]
    """Those to look at first come first."""
    levels: dict[str, int]
    """Devices by level."""
    alarms: int
    """Devices whose alarm stands at drift."""
    signals: dict[str, SignalCounts]
    """Counts behind the robust verdict."""
    raw_signals: dict[str, SignalCounts]
    """Everything added up."""
    estimate: FleetEstimate | None
    slices: tuple[SliceLine, ...] = ()
    """Of the whole alone."""
    incomplete_windows: int = 0
    """Received within the same time: their runner ended before it closed them."""
    incomplete_rows: int = 0
    reference: DriftReference | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The robust one."""
        return self.fleet.robust if self.fleet else None

    @property
    def statistics(self) -> dict[str, SignalVerdict]:
        """Behind the robust one."""
        return self.fleet.signals if self.fleet else {}


class ReleaseLine(Struct, frozen=True, kw_only=True):
    """One release in the overview."""

    model: str
    release: int
    level: str
    raw_level: str
    rows: int
    devices: int
    levels: dict[str, int]
    alarms: int
    left_out: int
    split: bool
    estimate: FleetEstimate | None
    newest: UnixTime
    """When the newest window came."""
    text: str


class FleetOverview(Struct, frozen=True, kw_only=True):
    time: UnixTime
    hours: float
    """Windows received within so long count."""
    releases: tuple[ReleaseLine, ...]


class TimelinePoint(Struct, frozen=True, kw_only=True):
    """One window, or one day of them where the span is long."""

    opened: UnixTime
    closed: UnixTime
    """By the device's clock."""
    time: UnixTime
    """When it was closed, as far as that is believed: when it came, where the device's clock can't be right."""
    rows: int
    windows: int
    level: str
    """Of a window, the device's own; of a day, the hub's over its merged counts."""
    alarm: str
    """Level of the alarm, "" where there is none; of a day, the worst."""
    incomplete: bool
    """Or, of a day, whether any was."""
    late: bool = False
    """It came more than a day after it was closed."""
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None


class VerdictTimeline(Struct, frozen=True, kw_only=True):
    device: str
    model: str
    by: str
    """``window`` or ``day``."""
    points: dict[int, tuple[TimelinePoint, ...]]
    """Release → its points, oldest first."""
    cut: bool
    """There were more; the newest are here."""


class HeatCell(Struct, frozen=True, kw_only=True):
    """One device on one day."""

    level: str
    """The hub's verdict on the day's merged counts; "" where it was not judged."""
    rows: int
    windows: int
    psi: float
    """Of the signal that moved most."""
    alarms: int
    """Windows that closed under an alarm of drift."""
    incomplete: int


class HeatMap(Struct, frozen=True, kw_only=True):
    model: str
    release: int
    slice: str
    days: tuple[str, ...]
    """``2026-11-28``, UTC, oldest first, without gaps."""
    fleet: tuple[HeatCell | None, ...]
    """The robust fleet verdict of each day."""
    devices: tuple[str, ...]
    """The worst first."""
    cells: tuple[tuple[HeatCell | None, ...], ...]
    """By device and day; None where nothing came."""
    cut: bool
    """There are more devices."""


class FleetDayView(Struct, frozen=True, kw_only=True):
    """One day of a release over the fleet."""

    day: str
    slice: str
    level: str
    raw_level: str
    devices: int
    rows: int
    windows: int
    incomplete_windows: int
    incomplete_rows: int
    unusable: int
    left_out: int
    psi: float
    accuracy: float | None
    levels: dict[str, int]
    text: str
