"""Mosquitto and a real hub process with its listener for devices, both behind proxies that count; devices as processes."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.downloads.locations import LocationKey
from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.cloud_hub.conftest import HubProcess
from tests.integration.transport.conftest import MOSQUITTO, Broker
from tests.support.byte_proxy import ByteProxy
from tests.support.ports import free_port
from tests.unit.cloud_hub.hub_world import APPROVERS, People

DEVICE = "cam-1"
SIZE = 4 * 1024 * 1024 + 12_345
ROOT = Path(__file__).parents[3]


class World:
    """The hub, what lies between it and the devices, and one artifact."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Broker("mosquitto" if MOSQUITTO else "rumqttd", folder)
        self.listener, port = free_port(), free_port()
        self.http, self.mqtt = ByteProxy(self.listener), ByteProxy(self.broker.port)
        home = folder / "hub"
        setup.create_hub(
            home, host="127.0.0.1", port=port, broker_port=self.broker.port, open_dashboard=False
        )
        toml = home / "hub.toml"
        text = toml.read_text().replace(
            '# url = "https://hub.example:8443"', f'url = "https://127.0.0.1:{self.http.port}"'
        )
        text = text.replace("embedded = true", "embedded = false")
        text = text.replace('# host = "0.0.0.0"', 'host = "127.0.0.1"')
        toml.write_text(text.replace("# port = 8443", f"port = {self.listener}"))
        _config, self.paths = load_config(toml)
        hold_ceremony(
            self.paths, folder / "keys", approvers=APPROVERS, models=["digits"], root_keys=3, threshold=2
        )
        self.data = random.Random(7).randbytes(SIZE)
        self.sha256 = ArtifactStore(self.paths.artifacts).put(self.data).sha256
        self.hub = HubProcess(home, port)
        self.tokens = {
            role.value: setup.new_token(home / "hub.db", name=f"the-{role}", role=role)
            for role in (Role.VIEWER, Role.OPERATOR)
        }
        self.authority = home / "authority" / "ca.pem"

    @property
    def key(self) -> LocationKey:
        """The hub's own."""
        return LocationKey.open(self.paths.online_keys)

    def location(self, *, sha256: str | None = None, device: str = DEVICE, seconds: float = 600) -> str:
        """A signed URL of the listener."""
        return self.key.sign(
            f"https://127.0.0.1:{self.listener}",
            sha256 or self.sha256,
            device,
            int(time.time() + seconds),
        )

    def order(self, folder: Path, *ways: str, **more: Any) -> str:
        return json.dumps(
            {
                "device": DEVICE,
                "broker": ["127.0.0.1", self.mqtt.port],
                "folder": str(folder),
                "sha256": self.sha256,
                "size": SIZE,
                "authority": str(self.authority),
                "ways": ways,
                **more,
            }
        )

    def device(self, folder: Path, *ways: str, **more: Any) -> "DeviceProcess":
        return DeviceProcess(self.order(folder, *ways, **more))


class DeviceProcess:
    """A device process; its lines are read as they come."""

    def __init__(self, order: str) -> None:
        command = [sys.executable, "-m", "tests.integration.downloads.device", order]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.lines: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            yield self.lines[-1]

    def end(self) -> dict[str, Any]:
        """Its last word."""
        for _ in self:
            pass
        assert self.process.wait(60) == 0
        return self.lines[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("downloads"))
    made.broker.start()
    with made.http, made.mqtt:
        made.hub.start()
        with httpx.Client(base_url=made.hub.url, timeout=30) as client:
            People(client, made.tokens, made.folder / "keys").enrol(DEVICE)
        yield made
        made.hub.stop()
    made.broker.kill()
