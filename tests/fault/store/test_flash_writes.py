"""What an update writes to flash, by the kernel's count of a real agent."""

import asyncio
from pathlib import Path

import pytest

from agent.cli.client import ask
from agent.protocol.control import ControlRequest, DataResult
from agent.protocol.ledger import FlashWrites
from agent.store.ledger import process_written_bytes
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.releases import content
from tests.fault.store.conftest import ACTIVE, NEXT, serves
from tests.fault.store.measure_flash import measure
from tests.support.counts import count


def flash(device: AttackedDevice) -> dict[str, FlashWrites]:
    answer = ask(str(device.config.control_socket), ControlRequest(method="data"))
    assert isinstance(answer, DataResult)
    return {each.deployment: each for each in answer.ledger.flash}


def test_each_update_has_its_bytes(
    device: AttackedDevice, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = process_written_bytes()
    (tmp_path / "probe").write_bytes(b"x" * 100_000)
    if process_written_bytes() == before:
        pytest.skip(f"{tmp_path} is in memory, of which the kernel counts nothing")
    device.start()
    serves(device, ACTIVE)
    order, deployment = device.order(NEXT)
    device.ends(order, deployment)

    def accounted() -> FlashWrites | None:
        found = flash(device).get(deployment)
        return found if found is not None and found.ended is not None else None

    run = wait_for("the ledger", accounted, seconds=SECONDS)
    files = content("digits", NEXT)
    needed = sum(
        len(files[name]) for name in ("model.onnx", "golden.msgpack", "reference.json", "manifest.json")
    )
    assert needed < run.written_bytes < 3_000_000
    assert (run.model, run.release) == ("digits", NEXT)
    count(request, "flash writes of one update", bytes_of_its_files=needed, bytes_written=run.written_bytes)
    device.stop()
    device.start()
    assert flash(device)[deployment] == run, "also after a restart"


def test_a_day_of_telemetry_is_a_few_megabytes(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = process_written_bytes()
    (tmp_path / "probe").write_bytes(b"x" * 100_000)
    if process_written_bytes() == before:
        pytest.skip(f"{tmp_path} is in memory, of which the kernel counts nothing")
    written = asyncio.run(measure(tmp_path / "state", days=1, signals=8))
    assert written.records > 300
    assert 2e6 < written.block_layer < 10e6, "docs/telemetry.md says 8.0 MB"
    count(request, "flash writes of a day of telemetry", bytes_written=round(written.block_layer))
