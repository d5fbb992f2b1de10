"""The gate: waits while something is missing, goes on at once when it is given, and stops a download where it no longer is."""

import asyncio
from collections.abc import Callable
from datetime import UTC

import pytest
from msgspec.structs import replace

from agent.core.maintenance import MaintenanceWindow, Schedule
from agent.core.preconditions import Conditions, Facts, Order
from agent.protocol.state import Acceptance, Reason
from agent.service import gate as gate_module
from agent.service.gate import Gate

SECONDS = 5.0
HELD = Reason(code="held-on-device", text="a technician holds this device")
ACCEPTED = Acceptance(by="maria (uid 1000)", at=1.0)


class Bench:
    """A gate over facts and orders that a test changes."""

    def __init__(self, conditions: Conditions) -> None:
        self.facts = Facts(now=1_000.0, free_mib=500.0)
        self.order = Order()
        self.asked_of: list[str] = []
        self.said: list[str | None] = []
        self.gate = Gate(
            "digits", conditions, gather=lambda: self.facts, order=self._order, changed=self._changed
        )

    def _order(self, deployment: str) -> Order:
        self.asked_of.append(deployment)
        return self.order

    def _changed(self) -> None:
        waiting = self.gate.waiting
        self.said.append(None if waiting is None else waiting.reason.code)

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not happened():  # noqa: ASYNC110 - what happens is seen from outside only
                await asyncio.sleep(0.01)


async def test_what_may_be_installed_is_let_through_in_silence() -> None:
    bench = Bench(Conditions())
    await bench.gate.installable("d1", None)
    assert (bench.said, bench.gate.waiting, bench.asked_of) == ([], None, ["d1"])


async def test_it_says_what_is_missing_and_goes_on_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LOOK_SECONDS", 60.0)  # only `reconsider` may wake it
    bench = Bench(Conditions(operator=True))
    bench.order = Order(hold=HELD)
    waits = asyncio.create_task(bench.gate.installable("d1", None))
    await bench.until(lambda: bench.said == ["held-on-device"])
    bench.order = Order()
    bench.gate.reconsider()
    await bench.until(lambda: bench.said[-1] == "needs-operator")
    assert not waits.done()
    waits.cancel()
    await asyncio.wait({waits})
    assert bench.gate.waiting is None
    await bench.gate.installable("d1", ACCEPTED)
    assert bench.said == ["held-on-device", "needs-operator", None]


async def test_a_window_opens_on_time_though_nobody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "LOOK_SECONDS", 60.0)
    schedule = Schedule(windows=(MaintenanceWindow.parse("daily 00:17-00:18"),), zone=UTC, zone_name="UTC")
    bench = Bench(Conditions(schedule=schedule))
    bench.facts = replace(bench.facts, now=17 * 60 - 0.2)
    waits = asyncio.create_task(bench.gate.installable("d1", None))
    await bench.until(lambda: bench.said == ["outside-window"])
    assert bench.gate.waiting is not None
    assert bench.gate.waiting.until == 17 * 60
    bench.facts = replace(bench.facts, now=17 * 60 + 0.01)
    async with asyncio.timeout(SECONDS):
        await waits


async def test_a_download_is_stopped_where_it_may_not_go_on_and_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "LOOK_SECONDS", 0.05)
    bench = Bench(Conditions(minimum_free_mib=16))
    begun: list[str] = []
    finish = asyncio.Event()

    async def work() -> str:
        begun.append("begun")
        try:
            await finish.wait()
        except asyncio.CancelledError:
            begun.append("stopped")
            raise
        return "all of it"

    download = asyncio.create_task(bench.gate.downloading("d1", None, work))
    await bench.until(lambda: begun == ["begun"])
    bench.facts = replace(bench.facts, free_mib=3.0)
    await bench.until(lambda: begun == ["begun", "stopped"] and bench.gate.waiting is not None)
    bench.facts = replace(bench.facts, free_mib=30.0)
    await bench.until(lambda: begun == ["begun", "stopped", "begun"])
    finish.set()
    async with asyncio.timeout(SECONDS):
        assert await download == "all of it"
    assert bench.said == ["low-disk", None]


async def test_a_download_that_fails_fails() -> None:
    bench = Bench(Conditions())

    async def work() -> None:
        raise ValueError("no such file on the hub")

    with pytest.raises(ValueError, match="no such file"):
        await bench.gate.downloading("d1", None, work)


async def test_stopped_from_outside_it_stops_its_download_first() -> None:
    bench, stopped = Bench(Conditions()), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.02)
            stopped.append(True)

    download = asyncio.create_task(bench.gate.downloading("d1", None, work))
    await asyncio.sleep(0.05)
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    assert stopped == [True]
