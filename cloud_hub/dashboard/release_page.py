"""One release over the fleet: does its input still look like the data it was made from? Pure over what was read."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from agent.protocol.drift import SignalVerdict
from agent.protocol.drift_words import percent
from cloud_hub.dashboard import addresses, heat, words
from cloud_hub.dashboard.accuracy import AccuracyCard, Labelled, card
from cloud_hub.dashboard.drawing.interval import Known
from cloud_hub.dashboard.fleet_page import estimated
from cloud_hub.dashboard.heat import ByDay, HeatTable
from cloud_hub.dashboard.signals import SignalChart, charts, moved_most
from cloud_hub.telemetry.drift import DeviceDetail
from cloud_hub.telemetry.views import (
    DeviceDrift,
    FleetDayView,
    HeatMap,
    LeftOut,
    ReleaseDrift,
    SliceLine,
)

SIGNALS_SHOWN = 6
"""The others are folded away."""
MATRIX_DEVICES, MATRIX_SIGNALS = 16, 10
HEAT_SHOWN = 40
SICK_SHOWN = 6
LEFT_OUT_SHOWN = 12


class Merge(Struct, frozen=True, kw_only=True):
    """One way to add the fleet up."""

    name: str
    level: str
    text: str


class MatrixCell(Struct, frozen=True, kw_only=True):
    level: str
    text: str


class MatrixRow(Struct, frozen=True, kw_only=True):
    device: str
    link: str
    level: str
    cells: tuple[MatrixCell, ...]


class Matrix(Struct, frozen=True, kw_only=True):
    """Devices by signals: a column that is bad is the world, a row that is bad is a device."""

    signals: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    signals_left: int


class SliceRow(Struct, frozen=True, kw_only=True):
    line: SliceLine
    link: str
    accuracy: str


class ReleasePage(Struct, frozen=True, kw_only=True):
    drift: ReleaseDrift
    name: str
    slice: str
    link: str
    """Of the whole."""
    tone: str
    headline: str
    what: str
    to_do: str
    accuracy: AccuracyCard
    sick: tuple[SignalChart, ...]
    """Of the devices to look at first, what moved most on each."""
    signals: tuple[SignalChart, ...]
    more_signals: tuple[SignalChart, ...]
    merges: tuple[Merge, ...]
    left_out: tuple[LeftOut, ...]
    left_out_more: int
    matrix: Matrix | None
    heat: HeatTable | None
    heat_cut: bool
    by_day: ByDay | None
    slices: tuple[SliceRow, ...]


class Promise(Struct, frozen=True, kw_only=True):
    """What the manifest says of a release."""

    summary: str
    accuracy: float | None


def build(
    drift: ReleaseDrift,
    map_: HeatMap,
    days: Sequence[FleetDayView],
    labelled: Labelled,
    promise: Promise,
    details: Mapping[str, DeviceDetail],
) -> ReleasePage:
    """``details``: of the devices to look at first."""
    fleet = drift.fleet
    cards = (
        charts(drift.reference, drift.signals, fleet.signals)
        if drift.reference is not None and fleet is not None
        else ()
    )
    tone, headline, to_do = advice(drift)
    left_out = fleet.left_out if fleet else ()
    table = heat.table(map_, HEAT_SHOWN)
    return ReleasePage(
        drift=drift,
        name=f"{drift.model} {drift.release}",
        slice=drift.slice,
        link=addresses.release(drift.model, drift.release),
        tone=tone,
        headline=headline,
        what=fleet.text if fleet else drift.problem or "No window has been reported yet.",
        to_do=to_do,
        accuracy=_accuracy(drift, labelled, promise),
        sick=_sick(drift, details),
        signals=cards[:SIGNALS_SHOWN],
        more_signals=cards[SIGNALS_SHOWN:],
        merges=_merges(drift),
        left_out=left_out[:LEFT_OUT_SHOWN],
        left_out_more=max(0, len(left_out) - LEFT_OUT_SHOWN),
        matrix=_matrix(
            drift.devices,
            {name: each.signals for name, each in details.items() if each.signals},
            [each.name for each in cards],
        ),
        heat=table,
        heat_cut=map_.cut or (table is not None and len(map_.devices) > len(table.rows) - 1),
        by_day=heat.by_day(days, map_.days, f"{drift.model} {drift.release}"),
        slices=tuple(
            SliceRow(
                line=line,
                link=addresses.release(drift.model, drift.release, line.slice),
                accuracy=estimated(line.estimate),
            )
            for line in sorted(drift.slices, key=lambda line: (words.worst_first(line.level), line.slice))
        ),
    )


def advice(drift: ReleaseDrift) -> tuple[str, str, str]:
    """Tone, headline and what to do first."""
    sick = drift.levels.get("drift", 0)
    devices = words.many(sick, "device")
    if drift.fleet is None:
        return (
            "quiet",
            "Nothing can be said yet",
            "See that the release was uploaded with its drift reference.",
        )
    if drift.fleet.split:
        return (
            "bad",
            "The fleet is not of one kind",
            "Look at the devices below by themselves, best side by side: over a third differ from the others.",
        )
    if drift.level in ("drift", "warning"):
        verb = "has moved away from" if drift.level == "drift" else "begins to move away from"
        return (
            "bad" if drift.level == "drift" else "warn",
            f"The input of the whole fleet {verb} the training data",
            "Most devices see it, so it is the world and not a sensor: gather fresh labelled data and retrain.",
        )
    if sick:
        return (
            "warn",
            f"The fleet is well, but {devices} {'is' if sick == 1 else 'are'} not",
            "Look at these devices first: a dirty lens, a moved sensor. Retrain only where what they see is right.",
        )
    if drift.level == "ok":
        return "good", "Its input looks like the data it was made from", "Nothing."
    return (
        "quiet",
        "Too few rows to say",
        "Wait, or make the windows longer: a verdict on too few rows would be a coin toss.",
    )


def _accuracy(drift: ReleaseDrift, labelled: Labelled, promise: Promise) -> AccuracyCard:
    estimate = drift.estimate
    why_not = next((device.estimate_off for device in drift.devices if device.estimate_off), None)
    return card(
        None if estimate is None else Known(value=estimate.accuracy, low=estimate.low, high=estimate.high),
        why_not,
        labelled,
        promise.accuracy,
    )


def _merges(drift: ReleaseDrift) -> tuple[Merge, ...]:
    fleet = drift.fleet
    if fleet is None:
        return ()
    kept = fleet.devices - sum(each.signal is not None for each in fleet.left_out)
    return (
        Merge(
            name=f"Robust: {words.many(kept, 'device')}, none counts for more than {words.many(fleet.cap, 'row')}",
            level=fleet.robust.level,
            text=fleet.robust.reason,
        ),
        Merge(
            name=f"Everything added up: {words.many(fleet.devices, 'device')}, {words.many(fleet.rows, 'row')}",
            level=fleet.raw.level,
            text=fleet.raw.reason,
        ),
    )


def _sick(drift: ReleaseDrift, details: Mapping[str, DeviceDetail]) -> tuple[SignalChart, ...]:
    found: list[SignalChart] = []
    for device in drift.devices:
        detail = details.get(device.device)
        if device.level in ("drift", "warning") and detail is not None and detail.reference is not None:
            found += charts(detail.reference, detail.drift.signals, detail.signals, device.device)[:1]
    return tuple(found[:SICK_SHOWN])


def _matrix(
    devices: Sequence[DeviceDrift],
    by_device: Mapping[str, Mapping[str, SignalVerdict]],
    names: Sequence[str],
) -> Matrix | None:
    shown = [device for device in devices if device.device in by_device][:MATRIX_DEVICES]
    if not shown or not names:
        return None
    order = sorted(names, key=lambda name: _worst(name, [by_device[each.device] for each in shown]))
    signals = tuple(order[:MATRIX_SIGNALS])
    return Matrix(
        signals=signals,
        rows=tuple(
            MatrixRow(
                device=each.device,
                link=addresses.device(each.device),
                level=each.level,
                cells=tuple(_matrix_cell(by_device[each.device].get(name)) for name in signals),
            )
            for each in shown
        ),
        signals_left=max(0, len(order) - MATRIX_SIGNALS),
    )


def _worst(name: str, verdicts: Sequence[Mapping[str, SignalVerdict]]) -> tuple[int, float, float]:
    return min((moved_most(each[name]) for each in verdicts if name in each), default=(9, 0.0, 0.0))


def _matrix_cell(verdict: SignalVerdict | None) -> MatrixCell:
    if verdict is None:
        return MatrixCell(level="", text="")
    apart = max(verdict.missing_rate, verdict.not_finite_rate, verdict.outside_rate)
    by_share = verdict.level == "drift" and apart > verdict.psi
    return MatrixCell(level=verdict.level, text=percent(apart) if by_share else f"{verdict.psi:.2g}")
