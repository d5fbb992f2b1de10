"""Hostile patches on a real device, signed by approvers who did not look: a patch decides nothing, the file's hash does."""

import zstandard

from agent.delta.make import make_patch
from agent.protocol.control import ControlRequest, EventsResult
from agent.protocol.patches import PatchMethod, patch_name
from agent.protocol.state import Phase
from tests.fault.attacks import releases
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub

BOMB_MIB = 512


def bomb() -> bytes:
    """Half a gigabyte of zeros, in less than a tenth of the model."""
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    chunk = bytes(2**20)
    return b"".join([*(compressor.compress(chunk) for _ in range(BOMB_MIB)), compressor.flush()])


def named(method: PatchMethod, base: str | None = None) -> str:
    name = patch_name(releases.MODEL_FILE, method, base)
    assert name is not None
    return name


def test_a_bomb_a_wrong_base_and_a_wrong_result(hub: HostileHub, device: AttackedDevice) -> None:
    """Each is tried, found out within bounds, and told of; then the whole file comes, and the release commits."""
    served = device.answer()
    assert served is not None
    base = hub.content["digits", served][releases.MODEL_FILE]
    digest = releases.reference_to("", base).sha256
    release = hub.next_release()
    files = releases.content("digits", release)
    model = files[releases.MODEL_FILE]
    stranger = releases.times(served, of="a stranger's")
    hostile = {
        named(PatchMethod.ZSTD): bomb(),
        named(PatchMethod.SUB8, digest): make_patch(stranger, stranger[:-40] + b"x" * 40, PatchMethod.SUB8),
        named(PatchMethod.SUB32, digest): make_patch(base, base[:-40] + b"x" * 40, PatchMethod.SUB32),
    }
    assert all(len(patch) < len(model) for patch in hostile.values())
    hub.release("digits", release, {**hostile, **files})
    memory = device.memory_mib()
    director, deployment = device.order(release)
    assert device.ends(director, deployment).phase is Phase.COMMITTED
    assert device.answer() == release
    assert device.memory_mib() < memory + 24
    events = device.ask(ControlRequest(method="events", limit=50))
    assert isinstance(events, EventsResult)
    failed = {event.text.partition(":")[0] for event in events.events if event.kind == "patch-failed"}
    assert set(hostile) <= failed
    assert device.biggest_artifact() < 10 * len(model)
    device.commits(served)
