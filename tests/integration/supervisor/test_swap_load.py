"""Persistent clients of every kind while releases are swapped and runners are killed: who fails, and who may."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
from msgspec.structs import replace

from agent.supervisor.model_server import ModelServer
from agent.supervisor.serving import ServerSettings
from agent.supervisor.specs import RunnerSpec
from tests.integration.supervisor.swap_clients import Report, Window
from tests.support.own_children import own_children

SpecOf = Callable[[int], RunnerSpec]

DRAIN_SECONDS = 1.0
"""Shorter than the sleepy clients' pauses, longer than the idle ones'."""


class Clients:
    """All clients, in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.kills: list[Window] = []

    @classmethod
    async def start(cls, server: ModelServer) -> "Clients":
        assert server.listeners.tcp_address is not None
        host, port = server.listeners.tcp_address
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.supervisor.swap_clients",
            host,
            str(port),
            str(server.listeners.unix_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        clients = cls(process)
        assert await clients._line() == b"asking\n"
        return clients

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        async with asyncio.timeout(90):
            return await self._process.stdout.readline()

    async def stop(self) -> dict[str, Report]:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(self.kills) + b"\n")
        reports = msgspec.json.decode(await self._line(), type=dict[str, Report])
        assert await self._process.wait() == 0
        return reports

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@pytest.fixture
def settings(settings: ServerSettings) -> ServerSettings:
    return replace(settings, drain_seconds=DRAIN_SECONDS, outage_grace_seconds=60.0)


async def _kill(server: ModelServer, clients: Clients) -> None:
    runner = server.active
    assert runner is not None
    killed = time.monotonic()
    os.kill(runner.pid, signal.SIGKILL)
    await runner.exited
    clients.kills.append((killed, time.monotonic()))


async def _until_ready(server: ModelServer) -> None:
    async with asyncio.timeout(60):
        while not server.ready:  # noqa: ASYNC110 - seen as a client sees it
            await asyncio.sleep(0.01)


async def _swap_and_kill(
    server: ModelServer, spec_of: SpecOf, clients: Clients, *, swaps: int, crashes: int
) -> None:
    """Half of the crashes are mended before the next swap; in the others the swap comes into the outage."""
    chance = random.Random(7)
    crash_after = set(chance.sample(range(2, swaps + 2), crashes))
    for release in range(2, swaps + 2):
        candidate = await server.prepare(spec_of(release))
        await server.activate(candidate)
        if release in crash_after:
            await asyncio.sleep(chance.random() * 0.3)  # anywhere in the drain of the one before
            await _kill(server, clients)
            if len(clients.kills) % 2:
                await _until_ready(server)
    await _until_ready(server)
    await server.drained()


@pytest.fixture
async def clients(server: ModelServer, spec_of: SpecOf) -> AsyncIterator[Clients]:
    await server.activate(await server.prepare(spec_of(1)))
    started = await Clients.start(server)
    yield started
    await started.end()


def _line(name: str, report: Report) -> str:
    return (
        f"  {name:16} {report.requests:8} requests, told to close {report.told_to_close},"
        f" found closed {report.found_closed}, resent {report.resent}, lost {report.failed_in_flight},"
        f" longest {report.longest_ms:.0f} ms"
    )


def _judge(reports: dict[str, Report], *, swaps: int, crashes: int) -> None:
    requests = sum(report.requests for report in reports.values())
    in_flight = sum(report.in_flight_at_kills for report in reports.values())
    lost = sum(report.failed_in_flight for report in reports.values())
    failed = {name: report.failed for name, report in reports.items() if report.failed}
    total = (
        f"{swaps} swaps, {crashes} SIGKILLs, {requests} requests from {len(reports)} clients:"
        f" {sum(map(len, failed.values()))} failed,"
        f" and {lost} of the {in_flight} that were in flight at a SIGKILL"
    )
    lines = [total, *(_line(name, report) for name, report in reports.items())]
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert failed == {}
    assert lost <= in_flight
    assert all(report.releases[-1] == swaps + 1 for report in reports.values())
    # Connections were really kept, and really ended in both ways.
    assert all(reports[name].told_to_close for name in ("tcp-busy", "unix-busy", "tcp-idle", "unix-idle"))
    assert sum(report.resent for report in reports.values()) == 0


async def test_swaps_and_crashes_fail_no_request_but_those_in_flight_at_a_crash(
    server: ModelServer, spec_of: SpecOf, clients: Clients
) -> None:
    await _swap_and_kill(server, spec_of, clients, swaps=10, crashes=2)
    _judge(await clients.stop(), swaps=10, crashes=2)
    assert server.active is not None
    assert [each.pid for each in own_children()] == [server.active.pid]


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_hundred_swaps_and_ten_crashes(
    server: ModelServer, spec_of: SpecOf, clients: Clients
) -> None:
    await _swap_and_kill(server, spec_of, clients, swaps=100, crashes=10)
    _judge(await clients.stop(), swaps=100, crashes=10)
    assert server.active is not None
    assert [each.pid for each in own_children()] == [server.active.pid]
