"""How fast each way is over loopback, and what the process that speaks HTTP costs; figures for docs/transfer.md."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from agent.protocol.codec import frame
from agent.transport.http_ranges import COMMAND
from agent.transport.http_wire import Order
from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.downloads.conftest import ROOT, DeviceProcess, World
from tests.integration.downloads.test_ways import report

SIZE = 128 * 1024 * 1024
MIB = 1024 * 1024


@pytest.mark.soak
@pytest.mark.parametrize("way", ["http", "mqtt"])
def test_throughput(way: str, world: World, tmp_path: Path) -> None:
    stored = ArtifactStore(world.paths.artifacts).put(bytes(SIZE))
    order = json.loads(world.order(tmp_path, way))
    order |= {"sha256": stored.sha256, "size": SIZE, "broker": ["127.0.0.1", world.broker.port]}
    device = DeviceProcess(json.dumps(order))
    processor = 0.0
    largest: dict[str, float] = {"device": 0.0, "child": 0.0}
    looked = 0.0
    try:
        for _ in device:
            if time.monotonic() - looked < 0.2:
                continue
            looked = time.monotonic()
            process = psutil.Process(device.process.pid)
            for name, each in [("device", process), *(("child", child) for child in process.children())]:
                try:
                    largest[name] = max(largest[name], each.memory_full_info().pss / MIB)
                except psutil.Error:
                    continue
            processor = sum(process.cpu_times()[:2])
        end = device.lines[-1]
        assert end["arrived"] == SIZE
    finally:
        device.close()
    report(
        f"{SIZE / 1e6:.0f} MB over {way} ({end['version'] or 'MQTT 5'}): {SIZE / 1e6 / end['seconds']:.0f} MB/s,"
        f" {processor:.1f} s of the device's processor without children; largest PSS: device {largest['device']:.1f} MiB,"
        f" child {largest['child']:.1f} MiB"
    )


IMPORTS = """
import psutil
pss = lambda: psutil.Process().memory_full_info().pss / 2**20
import agent.daemon
before = pss()
import httpx, h2.connection
httpx.AsyncClient(http2=True)
print(f"{before:.1f} {pss():.1f}")
"""


@pytest.mark.soak
def test_what_a_child_costs_and_what_it_saves() -> None:
    before, after = subprocess.run(
        [sys.executable, "-c", IMPORTS], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    order = Order(
        url="http://127.0.0.1:9/x",  # nobody listens there
        etag=None,
        offset=0,
        size=1,
        authority=None,
        connect_seconds=1.0,
        read_seconds=1.0,
        now=time.time(),
    )
    spent = []
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(frame(order))
            child.stdin.flush()
            assert b"refused" in child.stdout.read().lower()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    report(
        f"httpx with HTTP/2 in the supervisor: PSS {before} -> {after} MiB;"
        f" a child for one order: {min(spent):.2f}-{max(spent):.2f} s of processor"
    )
