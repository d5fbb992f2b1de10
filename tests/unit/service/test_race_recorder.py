"""Nothing that was handed in is lost to a stop, and an outcome is not lost to a full disk."""

import asyncio
import threading

import pytest

from agent.protocol.telemetry import Event
from agent.service import recorder as recorder_module
from agent.service.recorder import TelemetryRecorder
from agent.store.outbox import Recordable
from agent.store.writer import Writer


def event(kind: str, deployment: str | None = None) -> Event:
    return Event(time=1.0, severity="info", kind=kind, text=kind, model="digits", deployment=deployment)


class Shelf:
    """An outbox and its log over the real writer thread."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.kept: list[Recordable] = []
        self.refuses = 0

    async def append(self, *bodies: Recordable) -> tuple[int, ...]:
        await self.writer.run(lambda: self._append(bodies))
        return (len(self.kept),)

    def _append(self, bodies: tuple[Recordable, ...]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise OSError(28, "No space left on device")
        self.kept.extend(bodies)

    async def newest(self, limit: int, *, model: str | None = None) -> list[Event]:
        return [body for body in reversed(self.kept) if isinstance(body, Event) and body.model == model][
            :limit
        ]


async def test_a_record_that_waits_for_the_writer_survives_a_stop() -> None:
    shelf, busy, free = Shelf(), threading.Event(), threading.Event()
    recorder = TelemetryRecorder(shelf, shelf, lambda _: None)
    task = asyncio.create_task(recorder.run())

    def other_work() -> None:
        busy.set()
        free.wait(10)

    other = asyncio.create_task(shelf.writer.run(other_work))
    await asyncio.to_thread(busy.wait, 10)
    recorder.record_soon(event("first"))
    recorder.record_soon(event("second"))
    for _ in range(5):
        await asyncio.sleep(0)  # the first has left the queue and waits for the writer
    task.cancel()
    await asyncio.sleep(0)
    free.set()
    await asyncio.wait((task, other), timeout=10)
    await shelf.writer.close()
    assert [body.kind for body in shelf.kept if isinstance(body, Event)] == ["first", "second"]


async def test_an_outcome_is_recorded_once_the_disk_takes_it_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_SECONDS", (0.0,), raising=False)
    shelf, counted = Shelf(), list[str]()
    recorder = TelemetryRecorder(shelf, shelf, counted.append)
    shelf.refuses = 2
    await recorder.record_once(event("deployment-outcome", "d1"))
    await recorder.record_once(event("deployment-outcome", "d1"))
    await shelf.writer.close()
    assert [body.deployment for body in shelf.kept if isinstance(body, Event)] == ["d1"]
    assert counted == ["telemetry-not-recorded"] * 2
