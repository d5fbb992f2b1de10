"""A whole device without a hub: the order in which it ends, and what does not end it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent.config import AgentConfig, DeviceConfig
from agent.protocol.telemetry import Event, Health, TelemetryAck
from agent.protocol.verification import VerifyResult
from agent.service.device import Device
from agent.service.memory import Memory
from agent.service.parts import Parts
from agent.service.receipts import ReceiptWriter
from agent.store.artifacts import ArtifactStore
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.keeper import DatabaseKeeper
from agent.store.last_good import LastGood
from agent.store.ledger import Ledger
from agent.store.open_windows import OpenWindowStore
from agent.store.outbox import Outbox
from agent.store.predictions import PredictionBounds, PredictionStore
from agent.store.sample_ledger import SampleLedger
from agent.store.state import StateStore
from agent.store.trust_db import TrustState
from agent.store.windows import WindowLog
from agent.store.writer import Writer
from agent.transport.mqtt import MqttLink
from agent.transport.receipt_signer import sign_receipt
from agent.transport.settings import LinkSettings


class Trust:
    damaged: str | None = None
    problem: str | None = None
    hub_time: float = 0.0

    async def load(self) -> TrustState:
        return TrustState(root=b"{}", metadata={}, marks=(), hub_time=0.0)

    async def apply(self, result: VerifyResult) -> None:
        raise AssertionError("no desired state arrives here")


async def verify(*_: Any) -> VerifyResult:
    raise AssertionError("no desired state arrives here")


def healthy() -> Health:
    return Health(
        time=1.0,
        cpu_percent=1.0,
        memory_available_mib=1.0,
        disk_free_mib=1.0,
        temperature_c=None,
        thermal=None,
        load=0.5,
        supervisor_pss_mib=1.0,
    )


def no_sensor() -> Health:
    raise RuntimeError("the sensor went away")


async def nothing_to_prepare() -> str | None:
    return None


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ew") as path:  # a Unix socket's path is short
        yield Path(path)


@pytest.fixture
async def parts(database: Database, tmp_path: Path, runtime: Path) -> AsyncIterator[Parts]:
    writer = Writer("state-writer")
    state = await StateStore.open(tmp_path / "state.db", writer)
    await state.put("model/digits", b'{"model":"digits"}')
    config = AgentConfig(
        device=DeviceConfig(
            id="camera-1", hardware_class="cpu", state_dir=str(tmp_path), runtime_dir=str(runtime)
        )
    )
    yield Parts(
        config=config,
        version="0",
        boot="b1",
        link=MqttLink(LinkSettings(host="127.0.0.1", port=1), device="camera-1", boot="b1"),
        outbox=Outbox(database, device="camera-1", maximum_bytes=2**20),
        events=EventLog(database),
        ledger=Ledger(database, clock=lambda: 1.0),
        sample_ledger=SampleLedger(database),
        predictions=PredictionStore(database, PredictionBounds(rows=100, bytes=2**20, seconds=3600.0)),
        open_windows=OpenWindowStore(database),
        windows=WindowLog(database),
        memory=Memory(
            state=state,
            trust=Trust(),
            database=database,
            keeper=DatabaseKeeper(database, nothing_to_prepare),
            artifacts=ArtifactStore(tmp_path / "artifacts", quota_bytes=2**20),
            last_good=LastGood(tmp_path / "last-good"),
            notes=(),
        ),
        runtimes=frozenset({"onnx"}),
        verify=verify,
        receipts=ReceiptWriter(
            config.device, "0", tmp_path / "device.crt", partial(sign_receipt, tmp_path), lambda: 1.0
        ),
        health=healthy,
        clock=lambda: 1.0,
    )
    await state.close()
    await writer.close()


async def until(reached: Any) -> None:
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - the device tells nobody of its counts
            await asyncio.sleep(0.005)


def watch_the_end(device: Device, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether every worker had ended when the runners were stopped; a runner says its last word then."""
    seen: list[bool] = []
    really = device._models.stop

    async def stop() -> None:
        seen.append(all(task.done() for task in device._workers))
        await really()
        last = Event(time=1.0, severity="info", kind="last-word", text="the window that was open")
        device._recorder.record_soon(last)

    monkeypatch.setattr(device._models, "stop", stop)
    return seen


async def kinds(parts: Parts) -> list[str]:
    return [event.kind for event in await parts.events.newest(10)]


async def test_at_a_stop_nobody_decides_any_more_and_last_words_are_recorded(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, stop = await Device.assemble(parts), asyncio.Event()
    seen = watch_the_end(device, monkeypatch)
    running = asyncio.create_task(device.run(stop))
    await until(lambda: device._workers)
    stop.set()
    await asyncio.wait_for(running, 10)
    assert seen == [True]
    assert "last-word" in await kinds(parts)


async def test_the_same_order_after_a_failure(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await Device.assemble(parts)
    seen = watch_the_end(device, monkeypatch)
    running = asyncio.create_task(device.run(asyncio.Event()))
    await until(lambda: device._workers)

    async def broken() -> None:
        raise RuntimeError("a mistake in the agent")

    device._supervise(broken())
    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await asyncio.wait_for(running, 10)
    assert seen == [True]
    assert "last-word" in await kinds(parts)


async def test_a_sensor_or_an_acknowledgement_that_fails_is_counted_and_ends_nothing(parts: Parts) -> None:
    device, stop = await Device.assemble(replace(parts, health=no_sensor)), asyncio.Event()
    running = asyncio.create_task(device.run(stop))
    await until(lambda: device._errors["health-not-sampled"] or running.done())
    epoch = (await parts.outbox.report()).epoch
    device._acknowledge(TelemetryAck(epoch=epoch, sequences=(2**70,)))  # more than SQLite can compare with
    await until(lambda: device._errors["acknowledgement-failed"] or running.done())
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 10)
