"""Labels meet predictions, in the caller's transaction: each has one answer, and moves exactly the figures of its own day."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from agent.protocol.labels import RANK, Label, LabelAnswer, LabelOrigin, LabelOutcome
from agent.store.counters import count

log = logging.getLogger(__name__)

DAY = 86_400
STRANGER = -1
"""Rank of an origin that only a later version of the agent knows."""
KEEP_DAILY = 4_096
"""Rows of ``real_accuracy``; the oldest days go first."""


class _Kept(Struct, kw_only=True):
    """The newest prediction under an id."""

    id: int
    release: int
    slice: str | None
    time: float
    label: str
    expected: float | None
    given: str | None
    origin: LabelOrigin | None
    given_at: float | None
    answers: int
    """Different ones, under this id."""


_ADD = (
    "INSERT INTO real_accuracy (model, release, slice, day, origin, rows, correct, expected_rows, expected_correct, changed) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1) ON CONFLICT (model, release, slice, day, origin) DO UPDATE SET "
    "rows = rows + ?6, correct = correct + ?7, expected_rows = expected_rows + ?8, expected_correct = expected_correct + ?9, "
    "changed = 1"
)
_TAKE_BACK = (
    "UPDATE real_accuracy SET rows = max(0, rows + ?6), correct = max(0, min(rows + ?6, correct + ?7)), "
    "expected_rows = max(0, min(rows + ?6, expected_rows + ?8)), expected_correct = max(0.0, expected_correct + ?9), changed = 1 "
    "WHERE model = ?1 AND release = ?2 AND slice = ?3 AND day = ?4 AND origin = ?5"
)
"""From a day that was let go, and began anew, less may be taken than is there."""


def join_labels(
    connection: sqlite3.Connection, model: str, labels: Sequence[Label], now: float
) -> tuple[LabelAnswer, ...]:
    kept = _lookup(connection, model, {label.request for label in labels})
    classes = _classes(connection, model)
    answers: list[LabelAnswer] = []
    for label in labels:
        outcome, text = _one(connection, model, label, kept.get(label.request), classes, now)
        answers.append(LabelAnswer(request=label.request, outcome=outcome, text=text))
        count(connection, f"label:{outcome}")
    connection.execute(
        "DELETE FROM real_accuracy WHERE rowid IN (SELECT rowid FROM real_accuracy ORDER BY day DESC LIMIT -1 OFFSET ?)",
        (KEEP_DAILY,),
    )
    return tuple(answers)


def _lookup(connection: sqlite3.Connection, model: str, requests: Iterable[str]) -> dict[str, _Kept]:
    rows = connection.execute(
        # The bare columns are those of the row that has max(id): https://www.sqlite.org/lang_select.html#bareagg
        "SELECT request, max(id), release, slice, time, label, expected, given, origin, given_at, "
        "count(DISTINCT release || '/' || label || '/' || coalesce(slice, '')) "
        "FROM predictions WHERE model = ?1 AND request IN (SELECT value FROM json_each(?2)) GROUP BY request",
        (model, json.dumps(sorted(requests))),
    )
    return {
        request: _Kept(
            id=identity,
            release=release,
            slice=part,
            time=time,
            label=label,
            expected=expected,
            given=given,
            origin=origin,
            given_at=given_at,
            answers=answers,
        )
        for request, identity, release, part, time, label, expected, given, origin, given_at, answers in rows
    }


def _classes(connection: sqlite3.Connection, model: str) -> dict[int, list[str]]:
    rows = connection.execute("SELECT release, labels FROM prediction_classes WHERE model = ?", (model,))
    found: dict[int, list[str]] = {}
    for release, labels in rows:
        try:
            found[release] = msgspec.json.decode(labels, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):  # the next prediction writes them anew
            log.warning("names of classes can't be read", extra={"model": model, "release": release})
    return found


def _one(
    connection: sqlite3.Connection,
    model: str,
    label: Label,
    kept: _Kept | None,
    classes: Mapping[int, Sequence[str]],
    now: float,
) -> tuple[LabelOutcome, str]:
    refusal = _refusal(label, kept, classes)
    if kept is None or refusal is not None:
        return refusal or ("unknown", "")
    at = min(now if label.time is None else label.time, now)
    standing = _standing(label, kept, at)
    if standing is not None:
        return standing
    before = kept.given
    if before is not None and kept.origin is not None:
        _add(connection, model, kept, before, kept.origin, -1)
    _add(connection, model, kept, label.label, label.origin, 1)
    kept.given, kept.origin, kept.given_at = label.label, label.origin, at
    connection.execute(
        "UPDATE predictions SET given = ?, origin = ?, given_at = ? WHERE id = ?",
        (label.label, label.origin, at, kept.id),
    )
    said = f"release {kept.release} said {kept.label}"
    if before is None:
        return "joined", said
    return "corrected", f"{said}; it was labelled {before} before"


def _refusal(
    label: Label, kept: _Kept | None, classes: Mapping[int, Sequence[str]]
) -> tuple[LabelOutcome, str] | None:
    if kept is None:
        return (
            "unknown",
            "no request of that id is kept: it was never asked here, or too long ago, or one of too many a minute",
        )
    if kept.answers > 1:
        return "ambiguous", f"requests with {kept.answers} different answers had that id"
    known = classes.get(kept.release, ())
    if known and label.label not in known:
        shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")  # noqa: PLR2004 (enough to see the kind)
        return "not-a-label", f"release {kept.release} has no class {label.label!r}; it has: {shown}"
    if not known and not (label.label.isascii() and label.label.isdigit()):
        return (
            "not-a-label",
            f"release {kept.release} has no names for its classes; a label is a class's number",
        )
    return None


def _standing(label: Label, kept: _Kept, at: float) -> tuple[LabelOutcome, str] | None:
    """Why the label that is there stays, if it does."""
    if kept.given is None or kept.origin is None or kept.given_at is None:
        return None
    standing = RANK.get(kept.origin, STRANGER)
    if RANK[label.origin] < standing:
        return "outranked", f"it was labelled {kept.given} by a {kept.origin}"
    if (label.label, label.origin) == (kept.given, kept.origin):
        return "repeated", f"it is labelled {kept.given} already"
    if RANK[label.origin] == standing and at < kept.given_at:
        return "outdated", f"it was labelled {kept.given} later than this"
    return None


def _add(
    connection: sqlite3.Connection, model: str, kept: _Kept, given: str, origin: LabelOrigin, sign: int
) -> None:
    """Count one label, or take it back (``sign`` -1), in the whole and in its slice."""
    day = int(kept.time // DAY * DAY)
    for part in {"", kept.slice or ""}:
        connection.execute(
            _ADD if sign > 0 else _TAKE_BACK,
            (
                model,
                kept.release,
                part,
                day,
                origin,
                sign,
                sign * (given == kept.label),
                sign * (kept.expected is not None),
                sign * (kept.expected or 0.0),
            ),
        )
