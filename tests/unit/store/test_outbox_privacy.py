"""What leaves is protected, what stays is whole, and the ledger accounts for what stays altogether."""

import random
from functools import partial

from agent.core.privacy import protect, stricter
from agent.protocol.drift import CountPrivacy
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Body, Event, Window
from agent.store.database import Database
from agent.store.outbox import Outbox
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
