"""A device that has committed releases 1 and 2, stopped, with a fresh copy of its state for each test."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.cli.client import ask
from agent.protocol.control import ControlRequest, EventsResult
from agent.protocol.state import Phase
from agent.protocol.telemetry import Event
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, TransferProblem
from cloud_hub.devices.authority import DeviceAuthority, create_authority
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import Answer, HostileHub, no_location
from tests.support.mosquitto import MOSQUITTO, Broker

ACTIVE, PREVIOUS, NEXT = 2, 1, 3


@dataclass
class Prepared:
    """The device, and what it was when it was stopped."""

    device: AttackedDevice
    saved: Path
    order: bytes
    """The director's document that it follows."""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    if MOSQUITTO is None:
        pytest.skip("MISSING TOOL: mosquitto (apt install mosquitto); no damaged device is tested")
    folder = tmp_path_factory.mktemp("damaged")
    for name in ("authority", "broker", "artifacts", "device"):
        (folder / name).mkdir()
    create_authority(folder / "authority", time.time())
    pki = folder / "pki"
    DeviceAuthority(folder / "authority").issue_broker_files(pki, ["127.0.0.1"], 30, time.time())
    broker = Broker(folder / "broker", pki)
    broker.start()
    hub = HostileHub(folder / "artifacts", broker.port, pki)
    hub.start()
    device = AttackedDevice(folder / "device", "cam-9", hub, folder / "authority", broker.port)
    try:
        for release in (PREVIOUS, ACTIVE, NEXT):
            hub.release("digits", release)
        device.start()
        device.commits(PREVIOUS)
        order, deployment = device.order(ACTIVE)
        assert device.ends(order, deployment).phase is Phase.COMMITTED
        device.stop()
        saved = folder / "saved"
        shutil.copytree(device.config.state, saved)
        yield Prepared(device, saved, order)
    finally:
        device.close()
        hub.stop()
        broker.stop()


@pytest.fixture
def fresh(prepared: Prepared) -> Iterator[Callable[[], AttackedDevice]]:
    """Each call: the device, stopped, as it was; the hub is honest and asks for what it serves."""
    device = prepared.device

    def make() -> AttackedDevice:
        device.stop()
        hub = device.hub
        hub.tamper, hub.locate, hub.now = None, no_location, datetime.now(UTC)
        state = device.config.state
        shutil.rmtree(state)
        shutil.copytree(prepared.saved, state)
        device.desire(prepared.order)
        return device

    yield make
    device.stop()


@pytest.fixture
def device(fresh: Callable[[], AttackedDevice]) -> AttackedDevice:
    """Stopped, as it was."""
    return fresh()


def no_artifacts(request: BlockRequest, honest: Block | TransferProblem) -> Iterable[Answer]:
    """A hub that is silent when it is asked for an artifact."""
    return () if isinstance(request.source, ArtifactSource) else (honest,)


def events(device: AttackedDevice, kind: str) -> list[Event]:
    """Of one kind, the newest first."""
    answer = ask(str(device.config.control_socket), ControlRequest(method="events", limit=200))
    assert isinstance(answer, EventsResult)
    return [event for event in answer.events if event.kind == kind]


def serves(device: AttackedDevice, release: int) -> None:
    """Wait until it answers, and it must be with this release."""

    def answer() -> int | None:
        device.service.require_alive()
        return device.answer()

    assert wait_for("an answer", answer, seconds=SECONDS, every=0.05) == release


def comes_to_serve(device: AttackedDevice, release: int) -> None:
    """Wait until this release answers; nothing but it and the one before may answer on the way."""

    def there() -> bool:
        device.service.require_alive()
        found = device.answer()
        assert found in {None, PREVIOUS, ACTIVE, NEXT}
        return found == release

    wait_for(f"release {release} to serve", there, seconds=SECONDS, every=0.05)


def problems(device: AttackedDevice) -> dict[str, str]:
    """Code → text of what it says is wrong with it."""
    return {problem.code: problem.text for problem in device.status().state.problems}


def scribble(path: Path, *, keep: int = 0) -> None:
    """What a dying disk makes of a file: another content of the same length, after the first ``keep`` bytes."""
    path.chmod(0o644)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(keep)
        file.write(bytes(range(256)) * ((size - keep) // 256 + 1))
        file.truncate(size)


@contextmanager
def state_on(device: AttackedDevice, mounted: Path) -> Iterator[None]:
    """The stopped device's state on another file system, which is the test's own; it is stopped at the end."""
    state = device.config.state
    place = mounted / "state"
    shutil.copytree(state, place)
    subprocess.run(["mount", "--bind", place, state], check=True)
    try:
        yield
    finally:
        device.stop()
        subprocess.run(["umount", "--lazy", state], check=True)
