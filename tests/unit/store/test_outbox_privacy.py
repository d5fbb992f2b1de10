"""What leaves is protected, what stays is whole, and the ledger accounts for what stays altogether."""

import random
import sqlite3
from functools import partial

from msgspec.structs import replace

from agent.core.privacy import protect, stricter
from agent.protocol.drift import CountPrivacy
from agent.protocol.labels import Prediction
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Accuracy, Body, Event, Window
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.outbox import Outbox
from agent.store.predictions import PredictionBounds, PredictionStore
from agent.store.release_privacy import KEEP
from agent.store.windows import WindowLog
from tests.property.core.test_privacy import SUPPRESSED, window

WHOLE = window([1, 400, 2, 300, 11, 3])
SLICE = window([1, 40, 2, 30, 1, 3], slice_name="site=north")


def outbox_of(database: Database, own: CountPrivacy | None) -> Outbox:
    def leaving(own: CountPrivacy | None, body: Body, release: CountPrivacy | None) -> Body | None:
        return protect(body, stricter(own, release), random.Random(1).randrange)

    return Outbox(database, device="cam-1", maximum_bytes=1 << 20, outgoing=partial(leaving, own))


async def sent(outbox: Outbox) -> list[Body]:
    batch = await outbox.next_batch()
    return [] if batch is None else [record.body for record in batch.records]


async def test_the_history_is_whole_and_the_outbox_is_not(database: Database) -> None:
    outbox = outbox_of(database, SUPPRESSED)
    await outbox.append(WindowClosed(window=WHOLE), WindowClosed(window=SLICE))
    (body,) = await sent(outbox)
    assert isinstance(body, Window)
    assert body.window.withheld is not None
    assert body.window.signals["s0"].withheld == 6
    kept = await WindowLog(database).history(None, 9)
    assert [each.signals["s0"].counts for each in kept] == [
        SLICE.signals["s0"].counts,
        WHOLE.signals["s0"].counts,
    ]
    report = await outbox.report()
    assert (report.recorded, report.pending, report.dropped) == (2, 1, {"withheld": 1})


async def test_a_release_may_ask_for_it_too(database: Database) -> None:
    outbox = outbox_of(database, None)
    await outbox.append(WindowClosed(window=WHOLE, privacy=SUPPRESSED), WindowClosed(window=WHOLE))
    windows = [body.window for body in await sent(outbox) if isinstance(body, Window)]
    assert [each.withheld is not None for each in windows] == [True, False]


async def test_nothing_that_is_sent_holds_a_figure_of_the_verdict(database: Database) -> None:
    outbox = outbox_of(database, SUPPRESSED)
    drift = Event(time=1.0, severity="warning", kind="drift", text=WHOLE.verdict.reason)
    await outbox.append(WindowClosed(window=WHOLE), drift)
    said = repr(await sent(outbox))
    for figure in ("3.217", "0.4321", "1.234e-07", "0.91234"):
        assert figure in repr((WHOLE, drift))
        assert figure not in said


DRIFT = Event(time=1.0, severity="warning", kind="drift", text="s0: psi 0.31", model="digits", release=1)
DAY = Accuracy(
    time=1.0, model="digits", release=1, opened=0.0, closed=86_400.0, origin="person", rows=13, correct=12
)


async def test_what_a_release_asks_for_holds_for_its_events_and_its_days_too(database: Database) -> None:
    await outbox_of(database, None).append(WindowClosed(window=WHOLE, privacy=SUPPRESSED))
    outbox = outbox_of(database, None)  # after a restart
    other = replace(DRIFT, release=2)
    await outbox.append(DRIFT, DAY, other)
    told = await sent(outbox)
    of_release, of_other = (body for body in told if isinstance(body, Event))
    assert (of_release.release, "0.31" in of_release.text) == (1, False)
    assert of_other == other
    assert [(body.rows, body.correct) for body in told if isinstance(body, Accuracy)] == [(10, 10)]
    assert DRIFT in await EventLog(database).newest(9)


async def test_days_are_told_so_before_the_first_window_has_closed(database: Database) -> None:
    store = PredictionStore(database, PredictionBounds(rows=10, bytes=10_000, seconds=60.0))
    said = Prediction("r-1", 1.0, None, "3", 0.5, None)
    asked = {("digits", 1): CountPrivacy(mechanism="noised")}
    await store.append([(("digits", 1), said)], {("digits", 1): []}, skipped=0, now=1.0, privacy=asked)
    outbox = outbox_of(database, None)
    await outbox.append(DAY)
    assert await sent(outbox) == []
    assert (await outbox.report()).dropped == {"withheld": 1}


async def test_what_many_releases_ask_for_is_bounded_but_not_forgotten_where_there_are_labels(
    database: Database,
) -> None:
    def labelled(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO real_accuracy VALUES ('digits', 1, '', 0, 'person', 1, 1, 0, 0.0, 1)")

    await database.write(labelled)
    outbox = outbox_of(database, None)
    releases = (
        WindowClosed(window=replace(WHOLE, release=each), privacy=SUPPRESSED) for each in range(1, KEEP + 9)
    )
    await outbox.append(*releases)
    kept = await database.read(
        lambda connection: connection.execute("SELECT release FROM release_privacy").fetchall()
    )
    assert [release for (release,) in kept] == [1, *range(9, KEEP + 9)]
