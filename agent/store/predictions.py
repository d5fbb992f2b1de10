"""What models said of requests that carry an id, and the labels that were joined with it; bounded, and written in batches.

There is no index by request id: ids come in no order, so that each row would rewrite a page of it on flash. Rows are
appended, and all labels of a message are looked up by one pass over the table, from its newest rows' pages to its oldest.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from agent.protocol.ids import UnixTime
from agent.protocol.labels import RANK, Label, LabelAnswer, LabelCounts, LabelOrigin, LabelOutcome, Prediction
from agent.protocol.telemetry import Accuracy
from agent.store.database import Database

DAY = 86_400
ROW_BYTES = 72
"""More than a row takes beside its texts."""
KEEP_CLASSES = 256
"""Releases whose classes are known."""
KEEP_DAILY = 4_096
"""Rows of ``real_accuracy``; the oldest days go first."""

Release = tuple[str, int]
"""Model and release."""


class PredictionBounds(Struct, frozen=True, kw_only=True):
    rows: int
    bytes: int
    seconds: float


class FigureKey(Struct, frozen=True, order=True):
    """Whose labels a figure counts."""

    model: str
    release: int
    slice: str | None
    origin: LabelOrigin


class Figure(Struct, frozen=True, kw_only=True):
    """Everything that is known of one key."""

    rows: int
    correct: int
    expected_rows: int
    expected_correct: float
    opened: UnixTime
    closed: UnixTime


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


class PredictionStore:
    """Of one device."""

    def __init__(self, database: Database, bounds: PredictionBounds) -> None:
        self._database = database
        self._bounds = bounds

    async def append(
        self,
        predictions: Sequence[tuple[Release, Prediction]],
        classes: Mapping[Release, Sequence[str]],
        *,
        skipped: int,
        now: float,
    ) -> None:
        """Keep what was said, and let go of what is over the bounds, in one transaction.

        ``classes``: the manifest's labels, of the releases in ``predictions``.

        Raises:
            StoreError, sqlite3.Error, OSError: nothing was kept.
        """
        await self._database.write(
            lambda connection: self._append(connection, predictions, classes, skipped, now)
        )

    async def join(self, model: str, labels: Sequence[Label], now: float) -> tuple[LabelAnswer, ...]:
        """Join labels with what was said; answers in their order. Raises like :meth:`append`."""
        return await self._database.write(lambda connection: _join(connection, model, labels, now))

    async def figures(self) -> dict[FigureKey, Figure]:
        """All that labels say, by whom it is about."""
        return await self._database.read(_figures)

    async def changed(self, limit: int) -> list[Accuracy]:
        """Days whose figures the hub has not been told as they are now (``suspicious`` is left open)."""
        return await self._database.read(lambda connection: _changed(connection, limit))

    async def told(self, records: Sequence[Accuracy]) -> None:
        """These are on their way; a day that has changed meanwhile stays changed."""
        await self._database.write(lambda connection: _told(connection, records))

    async def counts(self) -> LabelCounts:
        return await self._database.read(_counts)

    def _append(
        self,
        connection: sqlite3.Connection,
        predictions: Sequence[tuple[Release, Prediction]],
        classes: Mapping[Release, Sequence[str]],
        skipped: int,
        now: float,
    ) -> None:
        connection.executemany(
            "INSERT INTO prediction_classes (model, release, labels) VALUES (?1, ?2, ?3) "
            "ON CONFLICT (model, release) DO UPDATE SET labels = ?3 WHERE labels <> ?3",
            [(model, release, json.dumps(list(labels))) for (model, release), labels in classes.items()],
        )
        if classes:
            connection.execute(
                "DELETE FROM prediction_classes WHERE rowid IN "
                "(SELECT rowid FROM prediction_classes ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (KEEP_CLASSES,),
            )
        connection.executemany(
            "INSERT INTO predictions (model, release, slice, request, time, label, confidence, expected) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*release, each.slice, each.request, each.time, each.label, each.confidence, each.expected)
                for release, each in predictions
            ],
        )
        if skipped:
            _count(connection, "predictions-skipped", skipped)
        self._trim(connection, now)

    def _trim(self, connection: sqlite3.Connection, now: float) -> None:
        bounds, since = self._bounds, now - self._bounds.seconds
        connection.execute(
            "DELETE FROM predictions WHERE id <= (SELECT max(id) FROM predictions) - ?", (bounds.rows,)
        )
        # Only the oldest rows are looked at: a clock that was set back keeps some of them a little longer.
        connection.execute(
            "DELETE FROM predictions WHERE id < coalesce((SELECT id FROM predictions WHERE time >= ? ORDER BY id LIMIT 1), "
            "(SELECT max(id) + 1 FROM predictions))",
            (since,),
        )
        (size,) = connection.execute(
            "SELECT total(length(request) + length(label) + length(model) + coalesce(length(slice), 0) + ?) FROM predictions",
            (ROW_BYTES,),
        ).fetchone()
        if size > bounds.bytes:
            connection.execute(
                "DELETE FROM predictions WHERE id <= (SELECT max(id) FROM (SELECT id, sum(length(request) + length(label) + "
                "length(model) + coalesce(length(slice), 0) + ?) OVER (ORDER BY id DESC) AS size FROM predictions) "
                "WHERE size > ?)",
                (ROW_BYTES, bounds.bytes),
            )


def _join(
    connection: sqlite3.Connection, model: str, labels: Sequence[Label], now: float
) -> tuple[LabelAnswer, ...]:
    kept = _lookup(connection, model, {label.request for label in labels})
    classes = _classes(connection, model)
    answers: list[LabelAnswer] = []
    for label in labels:
        outcome, text = _one(connection, model, label, kept.get(label.request), classes, now)
        answers.append(LabelAnswer(request=label.request, outcome=outcome, text=text))
        _count(connection, f"label:{outcome}")
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
    return {release: json.loads(labels) for release, labels in rows}


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
    if RANK[label.origin] < RANK[kept.origin]:
        return "outranked", f"it was labelled {kept.given} by a {kept.origin}"
    if (label.label, label.origin) == (kept.given, kept.origin):
        return "repeated", f"it is labelled {kept.given} already"
    if RANK[label.origin] == RANK[kept.origin] and at < kept.given_at:
        return "outdated", f"it was labelled {kept.given} later than this"
    return None


def _add(
    connection: sqlite3.Connection, model: str, kept: _Kept, given: str, origin: LabelOrigin, sign: int
) -> None:
    """Count one label, or take it back (``sign`` -1), in the whole and in its slice."""
    day = int(kept.time // DAY * DAY)
    for part in {"", kept.slice or ""}:
        connection.execute(
            "INSERT INTO real_accuracy (model, release, slice, day, origin, rows, correct, expected_rows, expected_correct, "
            "changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 1) ON CONFLICT (model, release, slice, day, origin) DO "
            "UPDATE SET rows = rows + ?6, correct = correct + ?7, expected_rows = expected_rows + ?8, "
            "expected_correct = expected_correct + ?9, changed = 1",
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


def _figures(connection: sqlite3.Connection) -> dict[FigureKey, Figure]:
    rows = connection.execute(
        "SELECT model, release, slice, origin, min(day), max(day), sum(rows), sum(correct), sum(expected_rows), "
        "sum(expected_correct) FROM real_accuracy WHERE rows > 0 GROUP BY model, release, slice, origin"
    )
    return {
        FigureKey(model, release, part or None, origin): Figure(
            rows=count,
            correct=correct,
            expected_rows=expected_rows,
            expected_correct=expected_correct,
            opened=float(first),
            closed=float(last + DAY),
        )
        for model, release, part, origin, first, last, count, correct, expected_rows, expected_correct in rows
    }


def _changed(connection: sqlite3.Connection, limit: int) -> list[Accuracy]:
    rows = connection.execute(
        "SELECT model, release, slice, day, origin, rows, correct, expected_rows, expected_correct FROM real_accuracy "
        "WHERE changed = 1 ORDER BY day, model, release, slice, origin LIMIT ?",
        (limit,),
    )
    return [
        Accuracy(
            time=0.0,
            model=model,
            release=release,
            slice=part or None,
            opened=float(day),
            closed=float(day + DAY),
            origin=origin,
            rows=count,
            correct=correct,
            expected_rows=expected_rows,
            expected_correct=max(0.0, round(expected_correct, 6)),
        )
        for model, release, part, day, origin, count, correct, expected_rows, expected_correct in rows
    ]


def _told(connection: sqlite3.Connection, records: Sequence[Accuracy]) -> None:
    connection.executemany(
        "UPDATE real_accuracy SET changed = 0 WHERE model = ? AND release = ? AND slice = ? AND day = ? AND origin = ? "
        "AND rows = ? AND correct = ?",
        [
            (
                each.model,
                each.release,
                each.slice or "",
                int(each.opened),
                each.origin,
                each.rows,
                each.correct,
            )
            for each in records
        ],
    )


def _counts(connection: sqlite3.Connection) -> LabelCounts:
    count, oldest, labelled = connection.execute(
        "SELECT count(*), min(time), count(given) FROM predictions"
    ).fetchone()
    counters = dict(
        connection.execute(
            "SELECT name, value FROM counters WHERE name LIKE 'label:%' OR name = 'predictions-skipped'"
        ).fetchall()
    )
    return LabelCounts(
        predictions=count,
        oldest=oldest,
        labelled=labelled,
        skipped=counters.pop("predictions-skipped", 0),
        outcomes={name.removeprefix("label:"): value for name, value in counters.items()},
    )


def _count(connection: sqlite3.Connection, name: str, by: int = 1) -> None:
    connection.execute(
        "INSERT INTO counters (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = value + ?2",
        (name, by),
    )
