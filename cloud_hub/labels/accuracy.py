"""How often a model was right, by the labels that devices have joined: read from their telemetry, added up over devices."""

import math
from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from agent.drift.estimate import wilson
from agent.protocol.ids import Count, UnixTime
from agent.protocol.labels import LabelOrigin
from agent.protocol.telemetry import Accuracy
from cloud_hub.telemetry.bodies import decode_body
from cloud_hub.telemetry.models import ACCURACY, TelemetryRecord
from cloud_hub.telemetry.robust import cap_rows

LEVEL = 0.95
MOST_ROWS = 10_000_000
"""Labels of one day of a device, release and slice; one that claims more is not believed at all."""

_Found = list[tuple[str, Accuracy]]


class RealAccuracy(Struct, frozen=True, kw_only=True):
    """Labels of one origin, of one release and slice, of a day or of all days, over the devices."""

    model: str
    release: Count
    slice: str | None
    origin: LabelOrigin
    """``model`` is no truth: it stands apart."""
    opened: UnixTime
    closed: UnixTime
    devices: Count
    rows: Count
    """Those that count: of no device more than the median device's, as for the fleet's verdict."""
    correct: Count
    told: Count
    """All that the devices told."""
    accuracy: float
    low: float
    """Of the 95 % interval (Wilson's)."""
    high: float
    expected: float | None
    """What the releases' calibrations expect of the same rows."""
    suspicious: tuple[str, ...]
    """Devices whose labels may be the model's own output; they are counted here."""


class UnusableLabels(Struct, frozen=True, kw_only=True):
    """Records of a device that can't be true; they count nowhere."""

    device: str
    model: str
    records: Count
    why: str
    """Of the newest one."""


def real_accuracy(
    session: Session, model: str, *, since: float = 0.0, device: str | None = None, daily: bool = False
) -> list[RealAccuracy]:
    """By release (the newest first), slice, origin, and day where ``daily``; of one device or of all.

    ``since``: of days of which the hub was told since then, Unix seconds.
    """
    groups: dict[tuple[int, str, str, float], _Found] = {}
    for name, body in _newest(session, device, since):
        if body.model == model and body.rows and record_problem(body) is None:
            key = (-body.release, body.slice or "", body.origin, -body.opened if daily else 0.0)
            groups.setdefault(key, []).append((name, body))
    return [_added(group) for _, group in sorted(groups.items())]


def unusable_labels(session: Session, since: float) -> list[UnusableLabels]:
    """By device and model, of days of which the hub was told since ``since``."""
    found: dict[tuple[str, str], UnusableLabels] = {}
    for name, body in _newest(session, None, since):
        why = record_problem(body)
        if why is not None:
            key = (name, body.model)
            records = found[key].records + 1 if key in found else 1
            found[key] = UnusableLabels(device=name, model=body.model, records=records, why=why)
    return [each for _, each in sorted(found.items())]


def record_problem(body: Accuracy) -> str | None:
    """Why a record can't be true; None where it can."""
    if body.rows > MOST_ROWS:
        return f"it claims {body.rows} labels of a day, at most {MOST_ROWS} are believed"
    if body.correct > body.rows:
        return f"it claims {body.correct} right answers among {body.rows} labels"
    if body.expected_rows > body.rows:
        return f"it expects something of {body.expected_rows} rows, and has {body.rows} labels"
    if not 0.0 <= body.expected_correct <= body.expected_rows + _ROUNDING:
        return f"it expects {body.expected_correct:g} right answers of {body.expected_rows} rows"
    if not (math.isfinite(body.opened) and math.isfinite(body.closed)):
        return "its day has no date"
    return None


_ROUNDING = 1e-3
"""Of a sum of probabilities."""


def _newest(session: Session, device: str | None, since: float) -> Iterable[tuple[str, Accuracy]]:
    """The newest record of each day of each device, by its own numbering: deliveries may come in any order."""
    query = select(
        TelemetryRecord.device, TelemetryRecord.epoch, TelemetryRecord.sequence, TelemetryRecord.body
    ).where(
        text(ACCURACY),
        TelemetryRecord.body.is_not(None),
        TelemetryRecord.received >= since,
    )
    if device is not None:
        query = query.where(TelemetryRecord.device == device)
    found: dict[tuple[object, ...], tuple[str, Accuracy]] = {}
    # Sorted here: asked to, SQLite would go through every record by its key rather than take the index.
    for name, epoch, _, data in sorted(session.execute(query), key=lambda each: each[:3]):
        body = None if data is None else decode_body(data)
        if isinstance(body, Accuracy):
            found[name, epoch, body.model, body.release, body.slice, body.opened, body.origin] = (name, body)
    return found.values()


def _added(group: _Found) -> RealAccuracy:
    first = group[0][1]
    told: dict[str, int] = {}
    for name, body in group:
        told[name] = told.get(name, 0) + body.rows
    cap = cap_rows(np.array(list(told.values()), dtype=np.float64))
    say = {name: min(1.0, cap / rows) for name, rows in told.items()}
    rows = sum(min(count, cap) for count in told.values())
    right = sum(body.correct * say[name] for name, body in group)
    share = min(right / rows, 1.0)
    whole = all(body.expected_rows == body.rows for _, body in group)
    low, high = wilson(share, rows, LEVEL)
    return RealAccuracy(
        model=first.model,
        release=first.release,
        slice=first.slice,
        origin=first.origin,
        opened=min(body.opened for _, body in group),
        closed=max(body.closed for _, body in group),
        devices=len(told),
        rows=rows,
        correct=min(round(right), rows),
        told=sum(told.values()),
        accuracy=share,
        low=low,
        high=high,
        expected=sum(body.expected_correct * say[name] for name, body in group) / rows if whole else None,
        suspicious=tuple(sorted({name for name, body in group if body.suspicious})),
    )
