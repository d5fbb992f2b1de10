"""What models said of requests that carry an id, and the labels that were joined with it; bounded, and written in batches.

There is no index by request id: ids come in no order, so that each row would rewrite a page of it on flash. Rows are
appended, and all labels of a message are looked up by one pass over the table, from its newest rows' pages to its oldest.
"""

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from agent.protocol.drift import CountPrivacy
from agent.protocol.ids import UnixTime
from agent.protocol.labels import (
    Label,
    LabelAnswer,
    LabelCounts,
    LabelOrigin,
    LabelReceipt,
    Prediction,
)
from agent.protocol.telemetry import Accuracy
from agent.store.counters import count
from agent.store.database import Database
from agent.store.labelling import DAY, join_labels
from agent.store.release_privacy import note_privacy

log = logging.getLogger(__name__)

ROW_BYTES = 72
"""More than a row takes beside its texts."""
KEEP_CLASSES = 256
"""Releases whose classes are known."""
KEEP_RECEIPTS = 32
"""Several times what the hub has under way at once."""

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
        privacy: Mapping[Release, CountPrivacy] | None = None,
    ) -> None:
        """Keep what was said, and let go of what is over the bounds, in one transaction.

        ``classes``: the manifest's labels, of the releases in ``predictions``; ``privacy``: what some ask for of their counts.

        Raises:
            StoreError, sqlite3.Error, OSError: nothing was kept.
        """
        await self._database.write(
            lambda connection: self._append(connection, predictions, classes, privacy or {}, skipped, now)
        )

    async def join(self, model: str, labels: Sequence[Label], now: float) -> tuple[LabelAnswer, ...]:
        """Join labels with what was said; answers in their order. Raises like :meth:`append`."""
        return await self._database.write(lambda connection: join_labels(connection, model, labels, now))

    async def receipt(self, delivery: str) -> LabelReceipt | None:
        """What the hub was told of a delivery, if it is one of the newest :data:`KEEP_RECEIPTS`."""
        receipts = await self._database.read(_receipts)
        return next((each for each in receipts if each.id == delivery), None)

    async def keep_receipt(self, receipt: LabelReceipt) -> None:
        """So that a delivery that comes again, after a later one perhaps, is not joined again."""
        await self._database.write(lambda connection: _keep_receipt(connection, receipt))

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
        privacy: Mapping[Release, CountPrivacy],
        skipped: int,
        now: float,
    ) -> None:
        for (model, release), asked in privacy.items():
            note_privacy(connection, model, release, asked)
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
            count(connection, "predictions-skipped", skipped)
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


def _receipts(connection: sqlite3.Connection) -> list[LabelReceipt]:
    """None where they can't be read, of another version of the agent or damaged: one of these may be joined twice."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'label-receipts'").fetchone()
    try:
        return [] if row is None else msgspec.json.decode(row[0], type=list[LabelReceipt])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("receipts of labels can't be read, and begin anew", extra={"why": str(error)})
        return []


def _keep_receipt(connection: sqlite3.Connection, receipt: LabelReceipt) -> None:
    kept = [*_receipts(connection), receipt][-KEEP_RECEIPTS:]
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('label-receipts', ?1) ON CONFLICT (key) DO UPDATE SET value = ?1",
        (msgspec.json.encode(kept).decode(),),
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
