"""A broker, a hostile hub and a device that serves release 1, shared by the attacks; each leaves it as it found it."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloud_hub.devices.authority import DeviceAuthority, create_authority
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub, no_location
from tests.support.mosquitto import MOSQUITTO, Broker

DEVICE = "cam-1"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the authority whose certificates the broker takes."""
    folder = tmp_path_factory.mktemp("attacks-authority")
    create_authority(folder, time.time())
    return folder


@pytest.fixture(scope="session")
def broker(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Mosquitto with the files of packaging/mosquitto, on loopback, with TLS."""
    if MOSQUITTO is None:
        pytest.skip("MISSING TOOL: mosquitto (apt install mosquitto); no attack on a real device is tested")
    pki = tmp_path_factory.mktemp("attacks-pki") / "files"
    DeviceAuthority(authority).issue_broker_files(pki, ["127.0.0.1"], 30, time.time())
    made = Broker(tmp_path_factory.mktemp("attacks-broker"), pki)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def shared_hub(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileHub]:
    made = HostileHub(tmp_path_factory.mktemp("attacks-artifacts"), broker.port, broker.pki)
    made.start()
    made.release("digits", 1)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def shared_device(
    shared_hub: HostileHub, broker: Broker, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedDevice]:
    """A device that has committed release 1 of ``digits``."""
    folder = tmp_path_factory.mktemp("attacks-device")
    made = AttackedDevice(folder, DEVICE, shared_hub, authority, broker.port)
    try:
        made.start()
        made.commits(1)
        yield made
    finally:
        made.close()


@pytest.fixture
def hub(shared_hub: HostileHub) -> HostileHub:
    """Honest, with today's timestamp, until the test says otherwise."""
    shared_hub.tamper, shared_hub.locate = None, no_location
    shared_hub.now = datetime.now(UTC)
    return shared_hub


@pytest.fixture
def device(hub: HostileHub, shared_device: AttackedDevice) -> Iterator[AttackedDevice]:
    """The shared device; after the attack it serves what it served, and an honest order comes through."""
    served, written = shared_device.answer(), len(shared_device.log())
    assert served is not None
    yield shared_device
    survives(shared_device, served, written)


def survives(device: AttackedDevice, served: int, written: int) -> None:
    """Whatever was tried: the same release serves, an honest hub is followed, and nothing broke on the way.

    Args:
        device: attacked.
        served: the release that answered before.
        written: length of the device's log before.
    """
    device.service.require_alive()
    assert wait_for("an answer", device.answer, seconds=SECONDS, every=0.05) == served
    device.hub.tamper = None
    device.hub.now = datetime.now(UTC)
    device.hub.repository.refresh_timestamp()
    device.commits(served)
    assert device.status().state.refusal is None
    log = device.log()[written:]
    assert "Traceback" not in log, log
    assert '"level": "error"' not in log.lower(), log


@pytest.fixture
def fresh_device(
    hub: HostileHub, broker: Broker, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], AttackedDevice]]:
    """Makes devices of a test's own, for attacks that leave something behind."""
    made: list[AttackedDevice] = []

    def make(name: str) -> AttackedDevice:
        # Not below tmp_path: with the test's name in it, the path of a Unix socket would be too long.
        folder = tmp_path_factory.mktemp(name)
        device = AttackedDevice(folder, name, hub, authority, broker.port)
        made.append(device)
        device.start()
        return device

    yield make
    for device in made:
        device.close()
