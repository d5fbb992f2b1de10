"""A committed release whose files the disk has damaged: what may stand in does, until they have been fetched again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from msgspec.structs import replace

from agent.core.commands import ServeActive
from agent.core.model_state import DeploymentState, ModelState
from agent.core.slots import InstalledRelease, Slots
from agent.protocol.ids import Digest
from agent.protocol.state import Assignment, Phase, Way
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.downloads import ArtifactDownloader
from agent.service.mending import Mender
from agent.store.last_good import LastGood
from agent.transport.sources import ByteWriter
from tests.integration.service.committed import ACCURATE, SMALL, Device


class Hub:
    """Has every file that the device had; gives them once it is open."""

    way: Way = "mqtt"

    def __init__(self, device: Device) -> None:
        self.open = asyncio.Event()
        self.files = {digest: device.artifacts.read(digest) for digest in device.release.files}

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        await self.open.wait()
        await writer.append(self.files[digest][writer.offset : size])

    def state(self, device: Device, previous: InstalledRelease | None) -> ModelState:
        """What is persisted after the release was committed."""
        files = [
            ReleaseFile(filename=digest, sha256=digest, size=len(data)) for digest, data in self.files.items()
        ]
        assignment = VerifiedAssignment(
            model="busy",
            release=1,
            assignment=Assignment(deployment="d1"),
            manifest=files[0],
            files=tuple(files[1:]),
        )
        deployment = DeploymentState(
            deployment="d1", model="busy", release=1, phase=Phase.COMMITTED, since=0.0, assignment=assignment
        )
        slots = Slots(active=device.release, previous=previous, floor=1)
        return ModelState(model="busy", slots=slots, deployment=deployment)


def mender(
    device: Device, hub: Hub, previous: InstalledRelease | None = None, withdrawn: tuple[int, ...] = ()
) -> Mender:
    state = hub.state(device, previous)
    return Mender(
        device.artifacts,
        ArtifactDownloader({"mqtt": hub}, device.artifacts),
        LastGood(device.folder / "last-good"),
        state=lambda _model: state,
        assignments=lambda: (),
        withdrawn=lambda _model: withdrawn,
    )


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


@pytest.fixture
async def hub(device: Device) -> AsyncIterator[Hub]:
    hub = Hub(device)
    device.mender = mender(device, hub)
    await device.start()
    yield hub
    await device.stop()


def damage(device: Device, digest: str) -> None:
    path = device.artifacts.path(digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


async def test_its_smaller_variant_stands_in(device: Device, hub: Hub) -> None:
    damage(device, device.release.artifact)
    await device.executor.serve(ServeActive(active=device.release))
    await device.until(lambda: device.serves == SMALL)
    await device.until(lambda: device.executor.serving.degraded is not None)
    why = device.executor.serving.degraded
    assert why is not None
    assert why.code == "artifact-damaged"
    assert f"release 1, variant {SMALL}, serves until it is fetched again" in why.text
    hub.open.set()
    await device.until(lambda: device.serves == ACCURATE)
    await device.until(lambda: device.executor.serving.degraded is None)
    assert device.artifacts.verify(device.release.artifact)
    told = [event.text for event in device.events("artifact-damaged")]
    assert told[-1] == "release 1 serves again"


async def test_with_nothing_that_can_stand_in_clients_are_told_why(device: Device, hub: Hub) -> None:
    for digest in device.release.files:
        damage(device, digest)
    await device.executor.serve(ServeActive(active=device.release))
    await device.until(lambda: bool(device.events("artifact-damaged")))
    transport = httpx.AsyncHTTPTransport(uds=str(device.server.listeners.unix_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://device") as client:
        answer = await client.post("/v2/models/busy/infer", json={})
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert "missing or damaged on this device; nothing on this device can stand in" in answer.text
    hub.open.set()
    await device.until(lambda: device.serves == ACCURATE)


async def test_what_serves_is_noted_as_the_last_good_release(device: Device, hub: Hub) -> None:
    await device.executor.serve(ServeActive(active=device.release))
    kept = LastGood(device.folder / "last-good")
    await device.until(lambda: "busy" in kept.read())
    assert msgspec.json.decode(kept.read()["busy"], type=InstalledRelease) == device.release
    assert hub.open.is_set() is False


def test_a_withdrawn_release_does_not_stand_in(device: Device) -> None:
    hub, previous = Hub(device), replace(device.release, release=7, deployment="d0")
    names = [each.deployment for each in mender(device, hub, previous).stand_ins(device.release)]
    assert names == ["d1", "d0"]
    names = [each.deployment for each in mender(device, hub, previous, (7,)).stand_ins(device.release)]
    assert names == ["d1"]
