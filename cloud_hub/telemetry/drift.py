"""Drift over the fleet, as it is read: the same counts and the same code as on the device, merged. No raw window is scanned."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.drift.merge import merge_counts
from agent.protocol.drift import DriftReference, SignalCounts, SignalVerdict
from cloud_hub.errors import NotFoundError
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.fleet_verdict import DeviceCounts, FleetMerge, merge_fleet
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.references import reference_digest, reference_of
from cloud_hub.telemetry.rollup_bodies import NewestBody, decode_newest
from cloud_hub.telemetry.rollup_models import DeviceDay, NewestWindow
from cloud_hub.telemetry.views import DeviceDrift, FleetOverview, ReleaseDrift, ReleaseLine, SliceLine

HOUR = 3_600.0
DETAILED = 8
"""Devices whose counts are told: those to look at first."""
MOST_RELEASES = 50
"""In the overview."""
MOST_SLICES = 17
"""Of a release: as many as a device may declare, and the rest."""
READY = 64
"""Releases and slices whose picture is kept until it changes."""
URGENCY = {"drift": 0, "warning": 1, "": 2, "ok": 4, "insufficient data": 5}
LEFT_OUT_URGENCY = 3


class _Newest(NamedTuple):
    row: NewestWindow
    body: NewestBody


class DeviceDetail(Struct, frozen=True, kw_only=True):
    """One device's newest window with everything that can be said about it."""

    drift: DeviceDrift
    signals: dict[str, SignalVerdict]
    reference: DriftReference | None


def fleet_drift(session: Session, artifacts: ArtifactStore, since: float) -> tuple[ReleaseDrift, ...]:
    """Every release that has windows received since ``since``, newest release of each model first; the whole of each."""
    return tuple(
        _release_drift(session, artifacts, model, release, "", since)
        for model, release in _releases(session, since)
    )


def fleet_overview(session: Session, artifacts: ArtifactStore, *, now: float, hours: float) -> FleetOverview:
    """One line a release. ``hours``: windows received within so long count (``telemetry.drift_hours``)."""
    return overview_of(fleet_drift(session, artifacts, now - hours * HOUR), now=now, hours=hours)


def overview_of(found: Iterable[ReleaseDrift], *, now: float, hours: float) -> FleetOverview:
    """One line a release, of what was read already."""
    return FleetOverview(time=now, hours=hours, releases=tuple(_line(drift) for drift in found))


def release_drift(
    session: Session,
    artifacts: ArtifactStore,
    model: str,
    release: int,
    *,
    now: float,
    hours: float,
    slice: str = "",  # noqa: A002 - the field's own word
) -> ReleaseDrift:
    """One release and slice over the fleet; of the whole, with a line for each slice.

    Raises:
        NotFoundError: no window of it was received within ``hours``.
    """
    since = now - hours * HOUR
    found = _release_drift(session, artifacts, model, release, slice, since)
    if not found.devices:
        name = f"{model} {release}" + (f", slice {slice}" if slice else "")
        raise NotFoundError(f"{name}: no drift window was received within {hours:g} hours")
    return found


def device_drift(
    session: Session,
    artifacts: ArtifactStore,
    device: str,
    model: str,
    release: int,
    slice: str = "",  # noqa: A002
) -> DeviceDetail:
    """One device by itself, with its counts and their statistics.

    Raises:
        NotFoundError: it has sent no complete window of this release and slice.
    """
    row = session.get(NewestWindow, (device, model, release, slice))
    if row is None:
        raise NotFoundError(f"{device} has sent no complete drift window of {model} {release}")
    reference = reference_of(session, model, release, artifacts)
    body = decode_newest(row.body)
    signals: dict[str, SignalVerdict] = {}
    if isinstance(reference, DriftReference) and body.problem is None:
        try:
            signals = judged(reference, body.signals, row.rows).signals
        except DriftError:
            signals = {}
    return DeviceDetail(
        drift=_device(_Newest(row, body), left_out=False, detailed=True),
        signals=signals,
        reference=reference if isinstance(reference, DriftReference) else None,
    )


def _releases(session: Session, since: float) -> list[tuple[str, int]]:
    """Those of most devices first, so that one device that makes releases up takes no other's place."""
    row = NewestWindow
    query = (
        select(row.model, row.release)
        .where(row.slice == "", row.received >= since)
        .group_by(row.model, row.release)
        .order_by(func.count().desc(), row.model, row.release.desc())
        .limit(MOST_RELEASES)
    )
    found = [(model, release) for model, release in session.execute(query)]
    return sorted(found, key=lambda key: (key[0], -key[1]))


def _release_drift(
    session: Session, artifacts: ArtifactStore, model: str, release: int, slice_: str, since: float
) -> ReleaseDrift:
    """As it was made the last time, where nothing has come or grown too old since."""
    key = (artifacts, model, release, slice_)
    stamp = _stamp(session, artifacts, model, release, since)
    ready = _ready.get(key)
    if ready is not None and ready[0] == stamp:
        return ready[1]
    made = _make(session, artifacts, model, release, slice_, since)
    if len(_ready) >= READY:
        _ready.clear()
    _ready[key] = (stamp, made)
    return made


_ready: dict[tuple[ArtifactStore, str, int, str], tuple[object, ReleaseDrift]] = {}


def _stamp(session: Session, artifacts: ArtifactStore, model: str, release: int, since: float) -> object:
    """What differs when any device's newest window, of any slice, does."""
    row = NewestWindow
    query = select(row.slice, func.count(), func.sum(row.received), func.max(row.received)).where(
        row.model == model, row.release == release, row.received >= since
    )
    found = tuple(tuple(each) for each in session.execute(query.group_by(row.slice).order_by(row.slice)))
    return (
        found,
        _incomplete(session, model, release, "", since),
        reference_digest(session, model, release, artifacts),
    )


def _make(
    session: Session, artifacts: ArtifactStore, model: str, release: int, slice_: str, since: float
) -> ReleaseDrift:
    newest = _newest(session, model, release, slice_, since)
    reference = reference_of(session, model, release, artifacts)
    merge = None if isinstance(reference, str) else _merge(reference, newest)
    verdict = merge.verdict if merge else None
    problem = reference if isinstance(reference, str) else None
    if problem is None and verdict is None:
        problem = "no device sent counts that can be used" if newest else None
    incomplete = _incomplete(session, model, release, slice_, since)
    devices = _devices(newest, {each.device for each in verdict.left_out} if verdict else set())
    return ReleaseDrift(
        model=model,
        release=release,
        slice=slice_,
        level=verdict.level if verdict else "",
        rows=sum(each.row.rows for each in newest),
        fleet=verdict,
        problem=problem,
        devices=devices,
        levels=dict(Counter(device.level or "not judged" for device in devices)),
        alarms=sum(each.row.alarm == "drift" for each in newest),
        signals=merge.robust if merge else {},
        raw_signals=merge.raw if merge else _plain_sum(newest),
        estimate=merge.estimate if merge else None,
        slices=_slices(session, model, release, since, reference) if not slice_ else (),
        incomplete_windows=incomplete[0],
        incomplete_rows=incomplete[1],
        reference=reference if isinstance(reference, DriftReference) else None,
    )


def _newest(session: Session, model: str, release: int, slice_: str, since: float) -> list[_Newest]:
    row = NewestWindow
    query = select(row).where(
        row.model == model, row.release == release, row.slice == slice_, row.received >= since
    )
    return [
        _Newest(found, decode_newest(found.body)) for found in session.scalars(query.order_by(row.device))
    ]


def _merge(reference: DriftReference, newest: Sequence[_Newest]) -> FleetMerge:
    return merge_fleet(
        reference,
        [
            DeviceCounts(
                device=each.row.device,
                rows=each.row.rows,
                signals=each.body.signals,
                altered=each.body.altered,
                estimate=each.body.estimate,
            )
            for each in newest
        ],
    )


def _plain_sum(newest: Sequence[_Newest]) -> dict[str, SignalCounts]:
    """Without a reference: the sum, where the layouts agree."""
    bodies = [each.body.signals for each in newest if each.body.signals]
    try:
        return {name: merge_counts(body[name] for body in bodies) for name in bodies[0]} if bodies else {}
    except (KeyError, ValueError):
        return {}


def _incomplete(session: Session, model: str, release: int, slice_: str, since: float) -> tuple[int, int]:
    """Windows and rows, of the days that ``since`` reaches into."""
    row = DeviceDay
    query = select(func.sum(row.incomplete_windows), func.sum(row.incomplete_rows)).where(
        row.model == model,
        row.release == release,
        row.slice == slice_,
        row.day >= int(since // DAY),
        row.incomplete_windows > 0,
    )
    windows, rows = session.execute(query).one()
    return int(windows or 0), int(rows or 0)


def _devices(newest: Sequence[_Newest], left_out: set[str]) -> tuple[DeviceDrift, ...]:
    def urgency(each: _Newest) -> tuple[int, str]:
        found = URGENCY[each.row.level]
        return (min(found, LEFT_OUT_URGENCY) if each.row.device in left_out else found), each.row.device

    ordered = sorted(newest, key=urgency)
    return tuple(
        _device(each, left_out=each.row.device in left_out, detailed=place < DETAILED)
        for place, each in enumerate(ordered)
    )


def _device(each: _Newest, *, left_out: bool, detailed: bool) -> DeviceDrift:
    row, body = each
    return DeviceDrift(
        device=row.device,
        epoch=row.epoch,
        sequence=row.sequence,
        slice=row.slice,
        opened=row.opened,
        closed=row.closed,
        received=row.received,
        rows=row.rows,
        level=row.level,
        claimed=row.claimed,
        verdict=body.verdict,
        alarm=body.alarm,
        estimate=body.estimate,
        estimate_off=body.estimate_off,
        left_out=left_out,
        problem=body.problem,
        signals=body.signals if detailed else {},
    )


def _slices(
    session: Session, model: str, release: int, since: float, reference: DriftReference | str
) -> tuple[SliceLine, ...]:
    row = NewestWindow
    query = (
        select(row.slice)
        .where(row.model == model, row.release == release, row.slice != "", row.received >= since)
        .group_by(row.slice)
        .order_by(func.count().desc(), row.slice)
        .limit(MOST_SLICES)
    )
    names = sorted(session.scalars(query))
    lines = []
    for name in names:
        newest = _newest(session, model, release, name, since)
        merge = None if isinstance(reference, str) else _merge(reference, newest)
        verdict = merge.verdict if merge else None
        lines.append(
            SliceLine(
                slice=name,
                level=verdict.level if verdict else "",
                devices=len(newest),
                rows=sum(each.row.rows for each in newest),
                estimate=merge.estimate if merge else None,
                text=verdict.text if verdict else "",
            )
        )
    return tuple(lines)


def _line(drift: ReleaseDrift) -> ReleaseLine:
    fleet = drift.fleet
    return ReleaseLine(
        model=drift.model,
        release=drift.release,
        level=drift.level,
        raw_level=fleet.raw.level if fleet else "",
        rows=drift.rows,
        devices=len(drift.devices),
        levels=drift.levels,
        alarms=drift.alarms,
        left_out=len(fleet.left_out) if fleet else 0,
        split=fleet.split if fleet else False,
        estimate=drift.estimate,
        newest=max((device.received for device in drift.devices), default=0.0),
        text=fleet.text if fleet else drift.problem or "",
    )
