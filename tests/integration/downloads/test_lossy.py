"""Transfers over a wire that loses every tenth packet: real TCP between two network namespaces."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloud_hub import setup
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.database import Database
from cloud_hub.devices.models import Device
from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.downloads.test_ways import report
from tests.support.lossy_wire import NEAR, LossyWire, missing
from tests.support.mosquitto import MOSQUITTO
from tests.unit.cloud_hub.hub_world import APPROVERS

DEVICE = "cam-1"
BROKER, LISTENER = 8510, 8443
ROOT = Path(__file__).parents[3]
LOSS = 0.10
HUB = ("-c", "import sys; from cloud_hub.cli import main; sys.exit(main())", "serve", "--config")

pytestmark = [
    pytest.mark.skipif(
        missing() is not None, reason=f"MISSING: {missing()}; loss and latency are not tested"
    ),
    pytest.mark.skipif(
        MOSQUITTO is None,
        reason="MISSING TOOL: mosquitto (apt install mosquitto); loss and latency are not tested",
    ),
]


class Ends:
    """A broker and a hub at the near end, a device at the far end."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        home = folder / "hub"
        setup.create_hub(home, host="127.0.0.1", port=8500, broker_port=BROKER, open_dashboard=False)
        toml = home / "hub.toml"
        text = toml.read_text().replace("embedded = true", "embedded = false")
        text = text.replace(f'host = "127.0.0.1"\nport = {BROKER}', f'host = "{NEAR}"\nport = {BROKER}')
        text = text.replace('# url = "https://hub.example:8443"', f'url = "https://{NEAR}:{LISTENER}"')
        toml.write_text(text.replace("# port = 8443", f"port = {LISTENER}"))
        _config, paths = load_config(toml)
        hold_ceremony(
            paths, folder / "keys", approvers=APPROVERS, models=["digits"], root_keys=3, threshold=2
        )
        self.data = random.Random(5).randbytes(size)
        self.sha256 = ArtifactStore(paths.artifacts).put(self.data).sha256
        _enrolled(Database(paths.database))
        self.toml = toml
        self.authority = home / "authority" / "ca.pem"

    def start(self, wire: LossyWire, stack: ExitStack) -> None:
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {BROKER} {NEAR}\nallow_anonymous true\npersistence false\n")
        assert MOSQUITTO is not None
        with (self.folder / "near.log").open("ab") as log:
            for command in ([MOSQUITTO, "-c", str(config)], [sys.executable, *HUB, str(self.toml)]):
                process = wire.near(command, stdout=log, stderr=log, cwd=ROOT)
                stack.callback(_end, process)

    def fetch(self, wire: LossyWire, folder: Path, way: str) -> dict[str, Any]:
        order = {
            "device": DEVICE,
            "broker": [NEAR, BROKER],
            "folder": str(folder),
            "sha256": self.sha256,
            "size": len(self.data),
            "authority": str(self.authority),
            "ways": [way],
            "tries": 20,
            "answer": {"minimum": 4.0, "maximum": 30.0},
        }
        command = [sys.executable, "-m", "tests.integration.downloads.device", json.dumps(order)]
        device = wire.far(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            out, _ = device.communicate(timeout=900)
        finally:
            _end(device)
        end: dict[str, Any] = json.loads(out.splitlines()[-1])
        assert "path" in end, (end, (self.folder / "near.log").read_text()[-3000:])
        assert Path(end["path"]).read_bytes() == self.data
        return end


def _enrolled(database: Database) -> None:
    database.migrate()
    row = Device(
        id=DEVICE,
        hardware_class="x",
        enrolled=1.0,
        certificate_sha256="",
        certificate_serial="1",
        certificate_expires=2e9,
        online=False,
    )
    database.write(lambda session: session.add(row))
    database.close()


def _end(process: "subprocess.Popen[Any]") -> None:
    if process.poll() is None:
        process.terminate()
        process.wait(20)


def fetched(tmp_path: Path, ways: tuple[str, ...], *, size: int, delay: float) -> Iterator[dict[str, Any]]:
    ends = Ends(tmp_path, size)
    with LossyWire(loss=LOSS, delay=delay) as wire, ExitStack() as stack:
        ends.start(wire, stack)
        for way in ways:
            began, carried, lost = time.monotonic(), wire.carried, wire.lost
            end = ends.fetch(wire, tmp_path / way, way)
            carried, lost = wire.carried - carried, wire.lost - lost
            report(
                f"{size} bytes over {way}, {LOSS:.0%} loss, {delay:g} s each way: {end['seconds']} s,"
                f" {lost} of {carried + lost} packets lost, {time.monotonic() - began:.0f} s with its start"
            )
            yield end


def test_every_tenth_packet_lost(tmp_path: Path) -> None:
    """Small and quick; the long one is for `make soak`."""
    for end in fetched(tmp_path, ("http", "mqtt"), size=300_000, delay=0.02):
        assert end["arrived"] == 300_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_tenth_packet_lost_and_a_second_each_way(tmp_path: Path) -> None:
    for end in fetched(tmp_path, ("http", "mqtt"), size=500_000, delay=1.0):
        assert end["arrived"] == 500_000
