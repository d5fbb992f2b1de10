"""Metadata that is too much, or no metadata: cut off, refused, and gone with the child that read it."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from agent.protocol.limits import BLOCK_BYTES
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, MetadataSource, TransferProblem
from agent.trust.repository import CONFIG
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import Answer, HostileHub, Tamper, instead_of

TIMESTAMP = "timestamp.json"
NONE = {
    "empty": b"",
    "cut": b'{"signed": {',
    "not utf-8": b"\xff\xfe",
    "deep": b"[" * 16_000,
    "deep objects": b'{"signed":' * 1_600,
    "null": b"null",
    "hollow": b'{"signed": {"_type": "timestamp"}, "signatures": []}',
    "huge number": b'{"signed": {"_type": "timestamp", "version": 1' + b"0" * 5_000 + b"}}",
    "words for a terminal": b'{"signed": {"_type": "\x1b[2J\\u001b[2J' + b"x" * 9_000 + b'"}}',
}


def blocks_of(name: str, change: Callable[[BlockRequest], Block]) -> Tamper:
    """Change the blocks of one metadata file."""

    def tamper(request: BlockRequest, honest: Block | TransferProblem) -> Iterable[Answer]:
        if isinstance(request.source, ArtifactSource) or request.source.name != name:
            return (honest,)
        return (change(request),)

    return tamper


def test_documents_that_are_none(hub: HostileHub, device: AttackedDevice) -> None:
    for what, data in NONE.items():
        hub.tamper = instead_of(TIMESTAMP, data)
        reason = device.refuses(device.order(1)[0])
        assert reason.code == "malformed", (what, reason)
        assert reason.text.isprintable()


def test_documents_of_another_role(hub: HostileHub, device: AttackedDevice) -> None:
    for role in ("snapshot", "targets", "digits", "root"):
        hub.tamper = instead_of(TIMESTAMP, hub.repository.published(role))
        assert device.refuses(device.order(1)[0]).code == "malformed", role


def test_endless_metadata(hub: HostileHub, device: AttackedDevice) -> None:
    """More than is allowed is refused by its announcement: the first block is all that travels."""
    before = len(hub.heard[device.name].requests)
    hub.tamper = blocks_of(TIMESTAMP, lambda asked: _filled(asked, CONFIG.timestamp_max_length + 1))
    reason = device.refuses(device.order(1)[0])
    assert reason.code == "malformed"
    assert f"at most {CONFIG.timestamp_max_length} are allowed" in reason.text
    asked = [each for each in hub.heard[device.name].requests[before:] if _is_for(each, TIMESTAMP)]
    assert len(asked) == 1


def test_metadata_that_grows_while_it_is_fetched(hub: HostileHub, device: AttackedDevice) -> None:
    """Never more than was announced, and begun anew only so often."""
    hub.repository.sign_anew()
    name = f"{hub.repository.versions()['snapshot']}.snapshot.json"
    sizes = iter(range(BLOCK_BYTES + 1, 2**20))
    hub.tamper = blocks_of(name, lambda asked: _filled(asked, next(sizes)))
    reason = device.refuses(device.order(1)[0])
    assert reason.code in {"malformed", "mix-and-match"}


def test_blocks_of_metadata_that_are_longer_than_asked_for(hub: HostileHub, device: AttackedDevice) -> None:
    def longer(asked: BlockRequest) -> Block:
        block = _filled(asked, 1_000)
        return replace(block, data=block.data * 200)

    hub.tamper = blocks_of(TIMESTAMP, longer)
    memory = device.memory_mib()
    reason = device.refuses(device.order(1)[0])
    assert reason.code == "malformed"
    assert "instead" in reason.text
    assert device.memory_mib() < memory + 16


def _filled(asked: BlockRequest, total: int) -> Block:
    length = max(0, min(asked.length, total - asked.offset))
    return Block(id=asked.id, offset=asked.offset, total=total, data=b" " * length)


def _is_for(request: object, name: str) -> bool:
    return isinstance(request, BlockRequest) and request.source == MetadataSource(name=name)
