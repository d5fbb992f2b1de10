"""How often a model was right, by the labels that devices have joined: read from their telemetry, added up over devices."""

from collections.abc import Iterable

from msgspec import Struct
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from agent.drift.estimate import wilson
from agent.protocol.ids import Count, UnixTime
from agent.protocol.labels import LabelOrigin
from agent.protocol.telemetry import Accuracy
from cloud_hub.telemetry.bodies import decode_body
from cloud_hub.telemetry.models import ACCURACY, TelemetryRecord

LEVEL = 0.95


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
    correct: Count
    accuracy: float
    low: float
    """Of the 95 % interval (Wilson's)."""
    high: float
    expected: float | None
    """What the releases' calibrations expect of the same rows."""
    suspicious: tuple[str, ...]
    """Devices whose labels may be the model's own output; they are counted here."""


def real_accuracy(
    session: Session, model: str, *, since: float = 0.0, device: str | None = None, daily: bool = False
) -> list[RealAccuracy]:
    """By release (the newest first), slice, origin, and day where ``daily``; of one device or of all.

    ``since``: of days of which the hub was told since then, Unix seconds.
    """
    groups: dict[tuple[int, str, str, float], list[tuple[str, Accuracy]]] = {}
    for name, body in _newest(session, device, since):
        if body.model == model and body.rows:
            key = (-body.release, body.slice or "", body.origin, -body.opened if daily else 0.0)
            groups.setdefault(key, []).append((name, body))
    return [_added(group) for _, group in sorted(groups.items())]


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


def _added(group: list[tuple[str, Accuracy]]) -> RealAccuracy:
    first = group[0][1]
    rows, correct = sum(body.rows for _, body in group), sum(body.correct for _, body in group)
    whole = all(body.expected_rows == body.rows for _, body in group)
    low, high = wilson(correct / rows, rows, LEVEL)
    return RealAccuracy(
        model=first.model,
        release=first.release,
        slice=first.slice,
        origin=first.origin,
        opened=min(body.opened for _, body in group),
        closed=max(body.closed for _, body in group),
        devices=len({name for name, _ in group}),
        rows=rows,
        correct=correct,
        accuracy=correct / rows,
        low=low,
        high=high,
        expected=sum(body.expected_correct for _, body in group) / rows if whole else None,
        suspicious=tuple(sorted({name for name, body in group if body.suspicious})),
    )
