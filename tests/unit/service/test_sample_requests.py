"""Requests for samples on the device: decided once, answered, fulfilled over crashes, stopped when the owner says so."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.config import SamplesConfig
from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, Envelope, EnvelopeSignature
from agent.protocol.limits import MAX_RECORD_BYTES
from agent.protocol.runner import SampleTaken
from agent.protocol.samples import (
    KeptSample,
    SampleRequest,
    SampleTensor,
    VerifiedSampleRequest,
    open_sample_request,
)
from agent.protocol.state import Reason
from agent.protocol.telemetry import Body, Event, Sample, SampleAnswer, TelemetryAck
from agent.protocol.verification import VerifyResult
from agent.service.recorder import TelemetryRecorder
from agent.service.sample_desk import SampleDesk
from agent.service.sample_keeping import SampleKeeper
from agent.service.sample_requests import TOLD, WAITING, SampleRequests
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.outbox import Outbox
from agent.store.sample_ledger import SampleLedger
from agent.store.samples import SampleRing
from agent.store.state import StateStore
from agent.store.writer import Writer

OPEN = SamplesConfig(enabled=True, may_leave=True)
REQUEST = SampleRequest(
    id="request-1",
    model="digits",
    devices=("cam-1",),
    first_release=1,
    last_release=2,
    maximum=100,
    created=0.0,
    expires=1000.0,
    purpose="night shots",
)


def kept(number: int, *, release: int = 1, size: int = 16) -> KeptSample:
    return KeptSample(
        id=f"{number:032x}",
        model="digits",
        release=release,
        deployment="d-1",
        artifact="1" * 64,
        time=float(number),
        why=("low-confidence",),
        score=float(number + 1),
        likeness=f"{number}",
        inputs=(SampleTensor(name="x", datatype="UINT8", shape=(1, size), data=bytes(size)),),
        outputs=(),
    )


def envelope(**changes: Any) -> Envelope:
    payload = msgspec.json.encode(msgspec.structs.replace(REQUEST, **changes))
    signature = EnvelopeSignature(keyid="ab", sig=b"not looked at: the verifier is tested elsewhere")
    return Envelope(payload=payload, payload_type=SAMPLE_REQUEST_TYPE, signatures=(signature,))


class Device:
    """Everything about samples of one device, over real stores; the verifier's verdict is given."""

    def __init__(self, folder: Path, database: Database, state: StateStore) -> None:
        self.folder, self.database, self.state = folder, database, state
        self.now = 10.0
        self.errors: Counter[str] = Counter()
        self.outbox = Outbox(database, device="cam-1", maximum_bytes=1 << 24)
        self.ledger = SampleLedger(database)
        self.refusal: Reason | None = None
        self.unchecked = False
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self, config: SamplesConfig = OPEN) -> None:
        """A run of the agent."""
        await self.crash()
        ring = SampleRing(
            self.folder / "samples",
            maximum_bytes=1 << 24,
            maximum_count=500,
            days=30.0,
            written_bytes_per_day=1 << 30,
        )
        recorder = TelemetryRecorder(self.outbox, EventLog(self.database), self.count)
        self.keeper = SampleKeeper(config, ring, clock=lambda: self.now, count=self.count)
        await self.keeper.load()
        self.requests = SampleRequests(
            config,
            self.keeper,
            self.outbox,
            self.ledger,
            self.state,
            recorder,
            self.verify,
            clock=lambda: self.now,
            trusted=lambda: self.now,
            count=self.count,
        )
        self.desk = SampleDesk(
            config, self.keeper, self.outbox, self.ledger, recorder, clock=lambda: self.now
        )
        loops = (self.keeper.run(), self.requests.run(), self.requests.fulfil())
        self.tasks = [asyncio.create_task(loop) for loop in loops]

    async def crash(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []

    def count(self, kind: str) -> None:
        self.errors[kind] += 1

    async def verify(self, data: bytes) -> VerifyResult:
        if self.unchecked:
            return VerifyResult(refusal=Reason(code="no-network", text="no network"))
        if self.refusal is not None:
            return VerifyResult(sample_refusal=self.refusal)
        request = open_sample_request(data)
        from hashlib import sha256

        digest = sha256(msgspec.json.decode(data, type=Envelope).payload).hexdigest()
        return VerifyResult(
            sample_request=VerifiedSampleRequest(request=request, digest=digest, approver="ab" * 32)
        )

    async def keep(self, *samples: KeptSample) -> None:
        for sample in samples:
            self.keeper.take(SampleTaken(sample=sample))
            await self.until(lambda sample=sample: sample.id in self.ids())  # type: ignore[misc]

    def ids(self) -> set[str]:
        return {entry.id for entry in self.keeper.entries()}

    async def until(self, reached: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not reached():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)

    async def decided(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(await self.ledger.departures(100)) < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)

    async def waits(self, count: int) -> None:
        """So many samples wait for the hub."""
        async with asyncio.timeout(20):
            while await self.ledger.waiting() < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)

    async def drain(self, *, least: int = 0) -> list[Body]:
        """What the hub gets, acknowledged as it comes, until the request is done."""
        found: list[Body] = []
        async with asyncio.timeout(20):
            while True:
                batch = await self.outbox.next_batch()
                if batch is not None:
                    found += [record.body for record in batch.records]
                    sequences = tuple(record.sequence for record in batch.records)
                    await self.outbox.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=sequences))
                elif len(found) >= least:
                    return found
                else:
                    await asyncio.sleep(0.005)


@pytest.fixture
async def device(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Device]:
    monkeypatch.setattr("agent.service.sample_requests.POLL_SECONDS", 0.005)
    writer = Writer("state-writer")
    state = await StateStore.open(tmp_path / "state.db", writer)
    made = Device(tmp_path, database, state)
    yield made
    await made.crash()
    await state.close()
    await writer.close()


def of_kind(bodies: list[Body], kind: type[Any]) -> list[Any]:
    return [body for body in bodies if isinstance(body, kind)]


async def test_the_most_informative_leave_and_everything_is_written_down(device: Device) -> None:
    await device.start()
    await device.keep(*(kept(number) for number in range(5)), kept(9, release=3))
    device.requests.take(envelope(maximum=3))
    found = await device.drain(least=6)
    (answer,) = of_kind(found, SampleAnswer)
    assert (answer.accepted, answer.code, answer.chosen) == (True, "accepted", 3)
    assert {each.sample for each in of_kind(found, Sample)} == {f"{number:032x}" for number in (2, 3, 4)}
    assert {each.kind for each in of_kind(found, Event)} == {"samples-requested", "samples-left"}
    shown = await device.desk.show(None, 20)
    assert [(each.samples, each.sent) for each in shown.departures] == [(3, 3)]
    assert shown.departures[0].purpose == "night shots"
    assert sum(each.left is not None for each in shown.samples) == 3


async def test_a_crash_at_any_place_makes_nothing_leave_twice(device: Device) -> None:
    await device.start()
    await device.keep(*(kept(number) for number in range(2 * WAITING)))
    device.requests.take(envelope())
    found: list[Body] = []
    for _ in range(8):
        await asyncio.sleep(0.02)
        await device.start()  # killed, and there again; the hub offers again, since it may have no answer
        device.requests.take(envelope())
        found += await device.drain()
    found += await device.drain()
    async with asyncio.timeout(20):
        while len(of_kind(found, Sample)) < 2 * WAITING:
            found += await device.drain()
            await asyncio.sleep(0.01)
    names = [each.sample for each in of_kind(found, Sample)]
    assert len(names) == len(set(names)) == 2 * WAITING
    assert {each.code for each in of_kind(found, SampleAnswer)} == {"accepted"}


async def test_few_wait_in_the_outbox_at_a_time(device: Device) -> None:
    await device.start()
    await device.keep(*(kept(number) for number in range(3 * WAITING)))
    device.requests.take(envelope())
    await device.waits(WAITING)
    await asyncio.sleep(0.05)
    assert await device.ledger.waiting() == WAITING
    assert len(of_kind(await device.drain(least=3 * WAITING + 3), Sample)) == 3 * WAITING


async def test_a_sample_that_fits_no_record_stays_and_is_named(device: Device) -> None:
    await device.start()
    await device.keep(kept(1), kept(2, size=MAX_RECORD_BYTES))
    device.requests.take(envelope())
    found = await device.drain(least=4)
    (answer,) = of_kind(found, SampleAnswer)
    assert answer.too_large == (f"{2:032x}",)
    assert [each.sample for each in of_kind(found, Sample)] == [f"{1:032x}"]
    report = await device.outbox.report()
    assert report.dropped == {}


async def test_without_the_owners_will_nothing_leaves_and_the_answer_says_so(device: Device) -> None:
    await device.start(SamplesConfig(enabled=True))
    await device.keep(kept(1))
    device.requests.take(envelope())
    found = await device.drain(least=2)
    (answer,) = of_kind(found, SampleAnswer)
    assert (answer.accepted, answer.code) == (False, "not-allowed")
    assert of_kind(found, Sample) == []
    await device.start()  # the owner changes their mind: that request stays refused
    device.requests.take(envelope())
    device.requests.take(envelope(id="request-2"))
    found = await device.drain(least=4)
    said = {each.request: each.accepted for each in of_kind(found, SampleAnswer)}
    assert said["request-2"]
    assert not said.get("request-1", False)  # killed before it had noted that it answered, it answers again


async def test_taking_the_permission_back_or_clearing_stops_what_is_on_its_way(device: Device) -> None:
    await device.start()
    await device.keep(*(kept(number) for number in range(2 * WAITING)))
    device.requests.take(envelope())
    await device.waits(WAITING)
    await device.start(SamplesConfig(enabled=True))
    await device.decided(2)
    found = await device.drain()
    assert of_kind(found, Sample) == []
    assert [each.code for each in of_kind(found, SampleAnswer)][-1] == "stopped"
    assert (await device.outbox.report()).dropped == {"cleared": WAITING}
    await device.start()
    device.requests.take(envelope(id="request-2"))
    await device.waits(WAITING)
    message = (await device.desk.clear("maria (uid 1000)")).message
    assert message.startswith(f"{2 * WAITING} samples were deleted")
    assert of_kind(await device.drain(least=3), Sample) == []


async def test_what_can_not_be_checked_is_not_decided(device: Device) -> None:
    await device.start()
    device.unchecked = True
    device.requests.take(envelope())
    await device.until(lambda: device.errors["sample-request-undecided"])
    assert await device.drain() == []
    device.unchecked = False
    device.requests.take(envelope())
    assert of_kind(await device.drain(least=2), SampleAnswer)[0].accepted


async def test_who_sends_many_that_are_not_proven_fills_neither_outbox_nor_state(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.service.sample_requests.CHECKS_AT_ONCE", 1000)
    await device.start()
    device.refusal = Reason(code="bad-signature", text="not the director's")
    for number in range(TOLD + 20):
        device.requests.take(envelope(id=f"forged-{number}"))
        await device.until(lambda number=number: device.errors["sample-request-refused"] == number + 1)  # type: ignore[misc]
    found = await device.drain()
    assert len(of_kind(found, SampleAnswer)) == TOLD
    assert await device.state.get_all("sample-request/") == {}
    device.refusal = None
    device.requests.take(envelope(id="forged-1"))  # an honest one may still use the id
    assert of_kind(await device.drain(least=2), SampleAnswer)[0].accepted


async def test_a_runner_that_was_not_asked_is_not_listened_to(device: Device) -> None:
    await device.start(SamplesConfig())
    device.keeper.take(SampleTaken(sample=kept(1)))
    assert device.errors == {"sample-not-asked-for": 1}
    await device.start(SamplesConfig(enabled=True, models=("faces",)))
    device.keeper.take(SampleTaken(sample=kept(1)))
    await device.start(SamplesConfig(enabled=True, sample_bytes=8))
    device.keeper.take(SampleTaken(sample=kept(1)))
    assert device.errors == {"sample-not-asked-for": 3}
    assert not (device.folder / "samples").exists()


async def test_an_export_goes_through_all_of_them_and_is_written_down(device: Device) -> None:
    await device.start()
    await device.keep(*(kept(number) for number in range(3)))
    after, seen = None, []
    while (sample := (await device.desk.export(after, "maria (uid 1000)")).sample) is not None:
        seen.append(sample)
        after = sample.id
    assert seen == [kept(number) for number in range(3)]
    events = [each for each in await EventLog(device.database).newest(9) if each.kind == "samples-exported"]
    assert [each.text for each in events] == ["3 samples were exported on the device by maria (uid 1000)"]


async def test_a_decided_request_that_can_not_be_read_stops_nobody_and_is_not_decided_anew(
    device: Device,
) -> None:
    await device.state.put("sample-request/request-1", b'{"stage":"a new word"}')
    await device.start()
    await device.keep(kept(1))
    device.requests.take(envelope())
    device.requests.take(envelope(id="request-2"))
    found = of_kind(await device.drain(least=6), SampleAnswer)
    assert {each.request: each.code for each in found} == {"request-1": "replayed", "request-2": "accepted"}
    assert device.errors["sample-request-unreadable"] == 1
    assert await device.state.get("sample-request/request-1") == b'{"stage":"a new word"}'
    assert not any(task.done() for task in device.tasks)
