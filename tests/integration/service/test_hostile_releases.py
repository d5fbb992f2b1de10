"""A release whose model would eat the device, through the real executor: refused with the reason, what is committed serves on."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agent.core.commands import ProbeCandidate, ServeActive
from agent.core.events import ProbeFailed
from agent.core.slots import InstalledRelease
from agent.protocol.manifest import ArtifactRef
from agent.service.installer import read_manifest
from tests.contract.runner import tiny_models as tiny
from tests.integration.service.committed import ACCURATE, Device
from tests.support.own_children import own_children

LOAD_SECONDS = 8.0


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    device = Device(tmp_path)
    await device.start()
    device.server._settings = replace(device.server._settings, load_timeout_seconds=LOAD_SECONDS)
    await device.executor.serve(ServeActive(active=device.release))
    assert device.server.ready
    yield device
    await device.stop()
    assert own_children() == []


def hostile(device: Device, content: bytes) -> InstalledRelease:
    """Release 2: one variant, of this content."""
    device.artifacts.add(content)
    digest = hashlib.sha256(content).hexdigest()
    manifest = read_manifest(device.artifacts.path(device.release.manifest))
    reference = ArtifactRef(filename="hostile.onnx", sha256=digest, size=len(content))
    only = replace(manifest.variant(ACCURATE), artifact=reference)
    stored = msgspec.json.encode(replace(manifest, release=2, variants=(only,)))
    device.artifacts.add(stored)
    name = hashlib.sha256(stored).hexdigest()
    return replace(
        device.release,
        deployment="d2",
        release=2,
        artifact=digest,
        manifest=name,
        files=(name, digest),
        standby=None,
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tiny.onnx_endless_loop(), "start-timeout"),
        (tiny.onnx_allocation_bomb(8, while_loading=True), "memory-over-budget"),
    ],
    ids=["endless loop", "allocation bomb"],
)
async def test_it_is_refused_and_what_is_committed_serves_on(
    device: Device, content: bytes, code: str
) -> None:
    served = device.server.active
    candidate = hostile(device, content)
    event = await device.executor.probe(ProbeCandidate(deployment="d2", candidate=candidate, tried=()))
    assert isinstance(event, ProbeFailed)
    assert event.reason.code == code
    assert device.server.active is served
    assert device.server.ready
    assert len(own_children()) == 1  # nothing of the candidate is left
