"""How fast each way is over loopback, and what the process that speaks HTTP costs; figures for docs/transfer.md."""

import json
import time
from pathlib import Path

import psutil
import pytest

from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.downloads.conftest import DeviceProcess, World
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
