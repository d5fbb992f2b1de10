"""A hub in a temporary folder, its application without a socket."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.app import create_app
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.hub_world import APPROVERS, People


class Clock:
    def __init__(self) -> None:
        import time

        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class RecordingPublisher:
    """Stands where the MQTT bridge does; the bridge has tests of its own."""

    connected = True

    def __init__(self) -> None:
        self.devices: list[str] = []
        self.labelled: list[str] = []
        self.offered: list[str] = []

    def publish_desired(self, device: str) -> None:
        self.devices.append(device)

    def offer_labels(self, device: str) -> None:
        self.labelled.append(device)

    def offer_samples(self, device: str) -> None:
        self.offered.append(device)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Folder of a new hub, before its ceremony."""
    setup.create_hub(tmp_path / "hub", host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=False)
    return tmp_path / "hub"


@pytest.fixture
def bare_hub(home: Path, clock: Clock) -> Iterator[Hub]:
    config, paths = load_config(home / "hub.toml")
    hub = Hub(config, paths, now=clock)
    hub.publisher = RecordingPublisher()
    yield hub
    hub.close()


@pytest.fixture
def hub(bare_hub: Hub, tmp_path: Path) -> Hub:
    """After the ceremony."""
    hold_ceremony(
        bare_hub.paths, tmp_path / "keys", approvers=APPROVERS, models=["digits"], root_keys=3, threshold=2
    )
    return bare_hub


@pytest.fixture
def people(hub: Hub, tmp_path: Path) -> Iterator[People]:
    tokens = {
        role.value: setup.new_token(hub.paths.database, name=f"the-{role}", role=role)
        for role in Role
        if role is not Role.ADMIN
    }
    tokens["admin"] = (hub.paths.data / "admin.token").read_text().strip()
    with TestClient(create_app(hub)) as client:
        yield People(client, tokens, tmp_path / "keys")
