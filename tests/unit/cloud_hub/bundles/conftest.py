"""A fleet of two devices that are asked to run release 1, and whose keys a test can use."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from agent.protocol.codec import encode_json
from agent.protocol.receipt import Receipt
from agent.protocol.state import DeploymentReport, Reason
from agent.store.durable_file import create_durable, write_durable
from agent.transport.identity import create_key, signing_request, store_certificate
from agent.transport.identity_files import IdentityFiles
from agent.transport.receipt_signer import seal_receipt
from cloud_hub import setup
from cloud_hub.access.service import Role
from cloud_hub.app import create_app
from cloud_hub.cli.ceremony import hold_ceremony
from cloud_hub.config import load_config
from cloud_hub.hub import Hub
from tests.unit.cloud_hub.conftest import Clock, RecordingPublisher
from tests.unit.cloud_hub.hub_world import APPROVERS, People
from tests.unit.cloud_hub.sample_release import HARDWARE, release_files

DEVICES = ("cam-1", "cam-2")


@dataclass
class Site:
    """Devices that a person with a stick can reach, and a hub at the office."""

    people: People
    hub: Hub
    folder: Path
    identities: dict[str, IdentityFiles] = field(default_factory=dict)

    def enrol(self, device: str, *, hardware_class: str = HARDWARE) -> None:
        folder = self.folder / device
        folder.mkdir(exist_ok=True)
        files = IdentityFiles.within(folder)
        if not files.key.exists():
            create_key(files, create_durable)
        token = self.people.ok("operator", "POST", "/v1/enrolment-tokens", json={"device": device})["token"]
        body = {
            "token": token,
            "device": device,
            "hardware_class": hardware_class,
            "csr": signing_request(files, device),
        }
        answer = self.people.http.post("/v1/enrol", json=body).json()
        store_certificate(files, device, answer["certificate"], answer["authority"], write_durable)
        self.identities[device] = files

    def rollout(self, release: int = 1, *devices: str) -> int:
        body = {
            "model": "digits",
            "release": release,
            "devices": list(devices) or None,
            "allowed_failures": 9,
        }
        return int(self.people.ok("operator", "POST", "/v1/rollouts", json=body)["id"])

    def deployment(self, device: str) -> str:
        (order,) = self.people.ok("viewer", "GET", f"/v1/devices/{device}")["desired"]
        return str(order["deployment"])

    def export(self, **wish: Any) -> bytes:
        answer = self.people.call("operator", "POST", "/v1/bundles", json=wish)
        assert answer.status_code == 200, answer.text
        return answer.content

    def receipt(
        self, device: str, *deployments: DeploymentReport, refusal: Reason | None = None, time: float = 1.0
    ) -> bytes:
        """A receipt as the device signs it."""
        files = self.identities[device]
        receipt = Receipt(
            device=device,
            hardware_class=HARDWARE,
            agent_version="0.1.0",
            time=time,
            bundle="ab" * 32,
            certificate=files.certificate.read_text(),
            deployments=deployments,
            refusal=refusal,
        )
        return seal_receipt(files, encode_json(receipt))

    def bring(self, receipt: bytes, who: str = "operator") -> Any:
        return self.people.call(who, "POST", "/v1/receipts", content=receipt)


def _hub(folder: Path, clock: Clock) -> Hub:
    config, paths = load_config(folder / "hub" / "hub.toml")
    hub = Hub(config, paths, now=clock)
    hub.publisher = RecordingPublisher()
    return hub


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder that each test gets a copy of, and people's tokens: making a hub takes a hundred times as long as copying it."""
    folder = tmp_path_factory.mktemp("prepared")
    setup.create_hub(folder / "hub", host="127.0.0.1", port=8500, broker_port=8510, open_dashboard=False)
    hub = _hub(folder, Clock())
    models = {"approvers": APPROVERS, "models": ["digits"], "root_keys": 3, "threshold": 2}
    hold_ceremony(hub.paths, folder / "keys", **models)  # type: ignore[arg-type]  # one dict for its keywords
    tokens = {
        role.value: setup.new_token(hub.paths.database, name=f"the-{role}", role=role)
        for role in Role
        if role is not Role.ADMIN
    }
    with TestClient(create_app(hub)) as client:
        site = Site(People(client, tokens, folder / "keys"), hub, folder)
        site.people.publish(release_files())
        for device in DEVICES:
            site.enrol(device)
    hub.close()
    return folder, tokens


@pytest.fixture
def hub(prepared: tuple[Path, dict[str, str]], tmp_path: Path, clock: Clock) -> Iterator[Hub]:
    shutil.copytree(prepared[0], tmp_path / "site")
    hub = _hub(tmp_path / "site", clock)
    yield hub
    hub.close()


@pytest.fixture
def site(prepared: tuple[Path, dict[str, str]], hub: Hub, tmp_path: Path) -> Iterator[Site]:
    """Release 1 is published, two devices are enrolled."""
    folder = tmp_path / "site"
    identities = {device: IdentityFiles.within(folder / device) for device in DEVICES}
    with TestClient(create_app(hub)) as client:
        yield Site(People(client, prepared[1], folder / "keys"), hub, folder, identities)
