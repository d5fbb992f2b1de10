"""The label desk over a real database: what it keeps, how many passes it needs, what it tells, and what it switches off."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, cast

import pytest
from msgspec.structs import replace

from agent.config import LabelsConfig
from agent.protocol.drift import AccuracyEstimate, CountPrivacy, DriftWindow
from agent.protocol.labels import Label, LabelAnswer, LabelDelivery, LabelOrigin, Prediction
from agent.protocol.runner import LabelsGiven, LabelsJoined, Predicted
from agent.protocol.telemetry import Accuracy, Event
from agent.service import labels as desk_module
from agent.service.label_line import LabelLine
from agent.service.labels import LabelDesk
from agent.service.recorder import TelemetryRecorder
from agent.store.database import Database
from agent.store.errors import StoreClosedError
from agent.store.events import EventLog
from agent.store.outbox import Outbox
from agent.store.predictions import PredictionBounds, PredictionStore
from agent.store.release_privacy import asked_for
from agent.supervisor.runner_process import RunnerProcess
from tests.unit.store.bodies import window as window_of_a_device

NOW = 1_728_000_000.0
CONFIG = LabelsConfig(write_seconds=0.01, report_seconds=0.01)
BOUNDS = PredictionBounds(rows=10_000, bytes=1 << 22, seconds=30 * 86_400.0)


class CountingStore(PredictionStore):
    """Counts passes over the table, and refuses while it is told to."""

    joins = 0
    refuses = False

    async def join(self, model: str, labels: Sequence[Label], now: float) -> tuple[LabelAnswer, ...]:
        self.joins += 1
        return await super().join(model, labels, now)

    async def append(self, *arguments: Any, **named: Any) -> None:
        if self.refuses:
            raise sqlite3.OperationalError("database or disk is full")
        await super().append(*arguments, **named)


class Spec(NamedTuple):
    model: str = "digits"
    release: int = 3
    labels: tuple[str, ...] = ("a", "b")


class Runner:
    """What the desk knows of a runner."""

    spec = Spec()

    def __init__(self) -> None:
        self.said: asyncio.Queue[LabelsJoined] = asyncio.Queue()

    async def say(self, message: LabelsJoined) -> None:
        self.said.put_nowait(message)


class Recorder:
    """Where events go."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def record_soon(self, body: Event) -> None:
        self.events.append(body)


class Office(NamedTuple):
    desk: LabelDesk
    store: CountingStore
    outbox: Outbox
    events: list[Event]
    runner: Runner
    counted: list[str]

    def predict(self, rows: int, *, expected: float | None = 0.9, part: str | None = None) -> None:
        said = tuple(Prediction(f"r-{n}", NOW, part, "a", 0.75, expected) for n in range(rows))
        self.desk.predicted(cast("RunnerProcess", self.runner), Predicted(predictions=said))

    async def label(self, wrong: int, rows: int, origin: LabelOrigin = "person") -> None:
        given = [Label(request=f"r-{n}", label="b" if n < wrong else "a", origin=origin) for n in range(rows)]
        answers = await self.desk.join("digits", given)
        assert {answer.outcome for answer in answers} <= {"joined", "corrected", "repeated"}

    async def count_of(self, kind: str) -> None:
        async with asyncio.timeout(5):
            while kind not in self.counted:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0.005)

    async def told(self, kind: str, count: int = 1) -> list[str]:
        """Texts of all events of that kind, once there are so many."""
        async with asyncio.timeout(5):
            while True:
                found = [each.text for each in self.events if each.kind == kind]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.005)

    async def accuracies(self, count: int) -> list[Accuracy]:
        """All that wait for the hub, once there are so many."""
        async with asyncio.timeout(5):
            while True:
                batch = await self.outbox.next_batch()
                bodies = [] if batch is None else [record.body for record in batch.records]
                found = [body for body in bodies if isinstance(body, Accuracy)]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.005)


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    counted: list[str] = []
    store, recorder = CountingStore(database, BOUNDS), Recorder()
    outbox = Outbox(database, device="camera-1", maximum_bytes=1 << 20)
    desk = LabelDesk(
        CONFIG,
        store,
        outbox,
        cast("TelemetryRecorder", recorder),
        clock=lambda: NOW + 60,
        count=counted.append,
    )
    running = asyncio.create_task(desk.run())
    yield Office(desk, store, outbox, recorder.events, Runner(), counted)
    running.cancel()
    await asyncio.wait([running])


def window(part: str | None = None, accuracy: float = 0.9) -> DriftWindow:
    estimate = AccuracyEstimate(accuracy=accuracy, low=0.85, high=0.95, level=0.95, rows=500)
    return replace(window_of_a_device(), model="digits", release=3, slice=part, estimate=estimate)


async def test_those_who_wait_share_one_pass(office: Office) -> None:
    office.predict(200)
    await asyncio.gather(
        *(
            office.desk.join("digits", [Label(request=f"r-{n}", label="a", origin="person")])
            for n in range(200)
        )
    )
    assert office.store.joins <= 5
    figures, counts = await office.desk.report(None)
    assert [(each.correct, each.rows) for each in figures] == [(200, 200)]
    assert counts.outcomes == {"joined": 200}
    assert await office.desk.report("faces") == ((), counts)


async def test_what_was_said_a_moment_ago_is_found_before_it_was_written(office: Office) -> None:
    office.predict(1)
    await office.label(0, 1)


async def test_a_clients_labels_are_answered_by_its_runner(office: Office) -> None:
    office.predict(1)
    given = LabelsGiven(call=7, labels=(Label(request="r-0", label="a", origin="system"),))
    office.desk.given(cast("RunnerProcess", office.runner), given)
    answer = await asyncio.wait_for(office.runner.said.get(), 5)
    assert (answer.call, answer.problem, answer.answers[0].outcome) == (7, None, "joined")
    office.store.refuses = True
    office.predict(1)
    office.desk.given(cast("RunnerProcess", office.runner), given)
    answer = await asyncio.wait_for(office.runner.said.get(), 5)
    assert answer.problem == "labels can't be joined now: database or disk is full"


async def test_a_disk_that_refuses_loses_nothing_but_what_has_no_room(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "MOST_WAITING", 20)
    office.store.refuses = True
    office.predict(15)
    with pytest.raises(sqlite3.OperationalError):
        await office.label(0, 1)
    office.predict(15)
    await office.count_of("labels-not-stored")
    office.store.refuses = False
    await office.label(0, 15)
    _, counts = await office.desk.report(None)
    assert (counts.predictions, counts.skipped) == (20, 10)


async def test_labels_that_look_like_the_models_own_are_told_of_once_and_shown(office: Office) -> None:
    office.predict(200)
    await office.label(0, 200, "system")
    (text,) = await office.told("labels-suspicious")
    assert text.startswith(
        "labels of origin system: 200 of 200 labels agree with the model where 90.0% are expected"
    )
    (figure,), _ = await office.desk.report("digits")
    assert figure.suspicious is not None
    assert [each.suspicious for each in await office.accuracies(1)][-1]
    office.predict(1)
    await office.label(0, 1, "person")
    assert len(await office.told("labels-suspicious")) == 1
    # What is suspicious proves nothing about the estimate, and no person's labels are suspected for it.
    assert office.desk.seen(window()).estimate is not None


async def test_labels_of_a_model_are_kept_apart_and_never_suspicious(office: Office) -> None:
    office.predict(200)
    await office.label(0, 200, "model")
    (record,) = await office.accuracies(1)
    assert (record.origin, record.rows, record.suspicious) == ("model", 200, False)
    assert office.events == []


async def test_labels_that_contradict_the_estimate_switch_it_off_with_the_reason(office: Office) -> None:
    assert office.desk.seen(window()).estimate is not None
    office.predict(100, part="camera=left")
    await office.label(40, 100)
    texts = await office.told("estimate-contradicted", 2)
    assert min(texts).startswith(
        "the accuracy estimate for camera=left is off: Labels contradict it: 60 of 100"
    )
    for part in (None, "camera=left"):
        off = office.desk.seen(window(part))
        assert off.estimate is None
        assert "60 of 100 labelled requests are right, 90.0% were expected" in str(off.estimate_off)
    assert office.desk.seen(window("camera=right")).estimate is not None
    figures, _ = await office.desk.report("digits")
    assert [(each.slice, each.estimate, each.contradicts is None) for each in figures] == [
        (None, 0.9, False),
        ("camera=left", 0.9, False),
    ]


async def test_each_change_of_a_day_is_told_and_nothing_twice(office: Office) -> None:
    office.predict(10)
    await office.label(0, 5)
    (first,) = await office.accuracies(1)
    assert (first.correct, first.rows, first.opened) == (5, 5, NOW // 86_400 * 86_400)
    await office.label(3, 10)
    newest = (await office.accuracies(2))[-1]
    assert (newest.correct, newest.rows) == (7, 10)
    await asyncio.sleep(0.05)
    assert len(await office.accuracies(2)) == 2


async def test_what_a_release_asks_for_of_its_counts_is_kept_for_its_days(
    office: Office, database: Database
) -> None:
    said = (Prediction("r-0", NOW, None, "a", 0.75, None),)
    asked = CountPrivacy(mechanism="suppressed", minimum=7)
    office.desk.predicted(cast("RunnerProcess", office.runner), Predicted(predictions=said, privacy=asked))
    await office.label(0, 1)
    day = (await office.accuracies(1))[0]
    assert await database.read(lambda connection: asked_for(connection, day)) == asked


async def test_who_asks_after_the_end_is_told_so(database: Database) -> None:
    outbox = Outbox(database, device="camera-1", maximum_bytes=1 << 20)
    recorder = TelemetryRecorder(outbox, EventLog(database), lambda _: None)
    store = PredictionStore(database, BOUNDS)
    desk = LabelDesk(LabelsConfig(), store, outbox, recorder, clock=lambda: NOW, count=lambda _: None)
    running = asyncio.create_task(desk.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])
    with pytest.raises(StoreClosedError):
        await desk.join("digits", [Label(request="r", label="a", origin="person")])
    desk.predicted(
        cast("RunnerProcess", Runner()), Predicted(predictions=(Prediction("r", NOW, None, "a", 1.0, None),))
    )
    await desk.finish()
    assert (await store.counts()).predictions == 1


class Link:
    is_connected = True

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def publish(self, channel: str, payload: bytes) -> None:
        self.sent.put_nowait((channel, payload))


async def test_a_delivery_is_acknowledged_once_it_is_durable_or_can_never_be(office: Office) -> None:
    link = Link()
    line = LabelLine(office.desk, link, known=lambda: {"digits"}, count=office.counted.append)
    running = asyncio.create_task(line.run())
    label = Label(request="r-0", label="a", origin="system")
    office.predict(1)
    office.store.refuses = True
    line.take(LabelDelivery(id="d-1", model="digits", labels=(label,)))
    await office.count_of("labels-not-joined")
    assert link.sent.empty()
    office.store.refuses = False
    line.take(LabelDelivery(id="d-1", model="digits", labels=(label,)))
    line.take(LabelDelivery(id="d-1", model="digits", labels=(label,)))
    line.take(LabelDelivery(id="d-2", model="faces", labels=(label,)))
    sent = [await asyncio.wait_for(link.sent.get(), 5) for _ in range(3)]
    assert {channel for channel, _ in sent} == {"labels/ack"}
    assert [payload for _, payload in sent] == [
        b'{"v":1,"id":"d-1","outcomes":{"joined":1},"refused":[],"problem":null}',
        b'{"v":1,"id":"d-1","outcomes":{"joined":1},"refused":[],"problem":null}',
        b'{"v":1,"id":"d-2","outcomes":{},"refused":[],"problem":"this device has no model faces"}',
    ]
    for _ in range(40):
        line.take(LabelDelivery(id="d-3", model="digits", labels=(label,)))
    assert "labels-queue-full" in office.counted
    running.cancel()
    await asyncio.wait([running])


async def test_a_delivery_that_comes_again_after_its_correction_takes_nothing_back(office: Office) -> None:
    """Its acknowledgement was lost; both say the same time, so that the one that arrives last would count."""
    office.predict(1)
    first, second = (
        LabelDelivery(
            id=f"d-{number}",
            model="digits",
            labels=(Label(request="r-0", label=label, origin="system", time=NOW),),
        )
        for number, label in ((1, "b"), (2, "a"))
    )
    told = await office.desk.deliver(first)
    assert (await office.desk.deliver(second)).outcomes == {"corrected": 1}
    assert await office.desk.deliver(first) == told
    (figure,), _ = await office.desk.report("digits")
    assert (figure.correct, figure.rows) == (1, 1)


async def test_suspicious_labels_do_not_hide_what_people_say(office: Office) -> None:
    office.predict(460)
    await office.label(0, 460, "system")
    await office.told("labels-suspicious")
    people = [Label(request=f"r-{n}", label="b" if n < 30 else "a", origin="person") for n in range(60)]
    await office.desk.join("digits", people)
    (text,) = await office.told("estimate-contradicted")
    assert "30 of 60 labelled requests are right" in text
