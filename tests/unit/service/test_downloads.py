"""Downloads: through the real block client and the real store; the far end of the link is this file."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import ReleaseError
from agent.protocol.codec import decode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.topics import Channel
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, BlockResponse, TransferProblem
from agent.service import downloads
from agent.service.downloads import ATTEMPTS, BlockDownloader
from agent.store.artifacts import ArtifactStore
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient, TransferSettings
from agent.transport.inbox import T

DATA = bytes(range(256)) * 40
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())
PATIENCE = TransferSettings(
    block_bytes=1024, window=2, tries=1, answer=Backoff(minimum=0.05, maximum=0.05), offline_seconds=0.05
)


class Hub:
    """Answers block requests from memory; ``silent`` and ``wrong`` are how many transfers go badly first."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.connected.set()
        self.errors: Counter[str] = Counter()
        self.files = {str(DIGEST): DATA}
        self.offsets: list[int] = []
        self.silent = 0
        self.wrong = 0
        self._handlers: dict[type, Callable[[BlockResponse], None]] = {}

    def on(self, kind: type[T], handler: Callable[[T], None]) -> None:
        self._handlers[kind] = handler  # type: ignore[assignment] # by its kind, as it is looked up

    async def publish(self, channel: Channel, payload: bytes) -> None:
        assert channel is Channel.REQUEST
        request = decode_msgpack(payload, BlockRequest)
        self.offsets.append(request.offset)
        if self.silent:
            self.silent -= 1
            return
        answer = self._answer(request)
        asyncio.get_running_loop().call_soon(self._handlers[type(answer)], answer)

    def _answer(self, request: BlockRequest) -> BlockResponse:
        assert isinstance(request.source, ArtifactSource)
        data = self.files.get(request.source.sha256)
        if data is None:
            return TransferProblem(id=request.id, code="not-found", text="the hub has no such artifact")
        part = data[request.offset : request.offset + request.length]
        if self.wrong:
            self.wrong -= 1
            part = bytes(len(part))
        return Block(id=request.id, offset=request.offset, total=len(data), data=part)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)


@pytest.fixture
async def hub() -> Hub:
    return Hub()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", quota_bytes=1 << 20)


def downloader(hub: Hub, store: ArtifactStore) -> BlockDownloader:
    return BlockDownloader(BlockClient(hub, PATIENCE), store)


async def refusal(hub: Hub, store: ArtifactStore, size: int = len(DATA)) -> str:
    with pytest.raises(ReleaseError) as error:
        await downloader(hub, store).obtain(DIGEST, size, lambda _: None)
    return f"{error.value.reason.code}: {error.value.reason.text}"


async def test_what_is_fetched_is_complete_and_stored(hub: Hub, store: ArtifactStore) -> None:
    seen: list[int] = []
    path = await downloader(hub, store).obtain(DIGEST, len(DATA), seen.append)
    assert path.read_bytes() == DATA
    assert path == store.path(DIGEST)
    assert seen == sorted(seen)
    assert seen[-1] == len(DATA)


async def test_what_is_here_is_not_fetched_again(hub: Hub, store: ArtifactStore) -> None:
    await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    hub.offsets.clear()
    seen: list[int] = []
    await downloader(hub, store).obtain(DIGEST, len(DATA), seen.append)
    assert (hub.offsets, seen) == ([], [len(DATA)])


async def test_what_was_damaged_here_is_fetched_again(hub: Hub, store: ArtifactStore) -> None:
    path = await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    path.chmod(0o644)
    path.write_bytes(b"rot" + DATA[3:])
    path = await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA


async def test_a_silent_hub_is_waited_for_however_often_and_resumed_at_where_it_stopped(
    hub: Hub, store: ArtifactStore
) -> None:
    with store.partial(DIGEST, len(DATA)) as begun:
        begun.append(DATA[:3000])
    hub.silent = 4 * ATTEMPTS
    path = await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert min(hub.offsets) == 3000


async def test_wrong_bytes_are_thrown_away_and_asked_for_again(hub: Hub, store: ArtifactStore) -> None:
    hub.wrong = 1
    path = await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert hub.offsets.count(0) == 2


async def test_a_hub_that_goes_on_sending_wrong_bytes_is_a_refusal(hub: Hub, store: ArtifactStore) -> None:
    hub.files[DIGEST] = b"x" * len(DATA)
    assert "fetch-failed: not fetched in 3 attempts" in await refusal(hub, store)
    assert hub.offsets.count(0) == ATTEMPTS
    assert not store.has(DIGEST)


async def test_an_artifact_the_hub_does_not_have_is_a_refusal(hub: Hub, store: ArtifactStore) -> None:
    hub.files.clear()
    assert "the hub has no such artifact" in await refusal(hub, store)


async def test_an_artifact_of_another_size_than_signed_is_a_refusal(hub: Hub, store: ArtifactStore) -> None:
    hub.files[DIGEST] = DATA + b"more"
    assert f"{len(DATA)} were signed" in await refusal(hub, store)


async def test_no_room_is_said_with_the_figures(hub: Hub, tmp_path: Path) -> None:
    small = ArtifactStore(tmp_path / "small", quota_bytes=100)
    said = await refusal(hub, small)
    assert said.startswith("no-room: the release can't be stored")
    assert f"{len(DATA)} bytes do not fit" in said
    assert hub.offsets == []


async def test_stopping_keeps_what_came_for_the_next_time(hub: Hub, store: ArtifactStore) -> None:
    came = asyncio.Event()

    def stop_half_way(here: int) -> None:
        if here >= len(DATA) // 2:
            hub.silent = 1_000
            came.set()

    task = asyncio.create_task(downloader(hub, store).obtain(DIGEST, len(DATA), stop_half_way))
    await asyncio.wait_for(came.wait(), 5)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    with store.partial(DIGEST, len(DATA)) as left:
        assert left.offset >= len(DATA) // 2
    hub.silent = 0
    hub.offsets.clear()
    await downloader(hub, store).obtain(DIGEST, len(DATA), lambda _: None)
    assert min(hub.offsets) >= len(DATA) // 2
