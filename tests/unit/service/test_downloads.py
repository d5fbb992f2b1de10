"""Downloads: through the real block client and the real store; the far end of the link is this file."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.errors import ReleaseError
from agent.protocol.codec import decode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.state import Reason, Way
from agent.protocol.topics import Channel
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, TransferProblem, TransferResponse
from agent.service.downloads import ArtifactDownloader, TransferPolicy
from agent.service.sink import RateLimit
from agent.service.transfers import Transfers
from agent.store.artifacts import ArtifactStore
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.errors import BusyError, NoAnswerError, TransferError
from agent.transport.inbox import T
from agent.transport.sources import ByteSource, ByteWriter

DATA = bytes(range(256)) * 40
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())
TRIES = 3
POLICY = TransferPolicy(
    small_bytes=0,
    minimum_bytes_per_second=0,
    stuck_seconds=60,
    tries=TRIES,
    backoff=Backoff(minimum=0.001, maximum=0.002),
)
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
        self._handlers: dict[type, Callable[[TransferResponse], None]] = {}

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

    def _answer(self, request: BlockRequest) -> TransferResponse:
        assert isinstance(request.source, ArtifactSource)
        data = self.files.get(request.source.sha256)
        if data is None:
            return TransferProblem(id=request.id, code="not-found", text="the hub has no such artifact")
        part = data[request.offset : request.offset + request.length]
        if self.wrong:
            self.wrong -= 1
            part = bytes(len(part))
        return Block(id=request.id, offset=request.offset, total=len(data), data=part)


@pytest.fixture
async def hub() -> Hub:
    return Hub()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts", quota_bytes=1 << 20)


def downloader(
    hub: Hub,
    store: ArtifactStore,
    *others: ByteSource,
    policy: TransferPolicy = POLICY,
    transfers: Transfers | None = None,
) -> ArtifactDownloader:
    """Over MQTT from ``hub``, and by the ``others``."""
    sources: list[ByteSource] = [BlockClient(hub, PATIENCE), *others]
    return ArtifactDownloader({source.way: source for source in sources}, store, policy, transfers=transfers)


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
    hub.silent = 4 * TRIES
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
    said = await refusal(hub, store)
    assert said.startswith(f"fetch-failed: file {DIGEST[:12]}… not fetched: mqtt sent wrong bytes: ")
    assert hub.offsets.count(0) == 2, "once more, and that is all"
    assert not store.has(DIGEST)


async def test_an_artifact_the_hub_does_not_have_is_a_refusal(hub: Hub, store: ArtifactStore) -> None:
    hub.files.clear()
    assert "mqtt failed 3 times: " in (said := await refusal(hub, store))
    assert "the hub has no such artifact" in said
    assert hub.offsets.count(0) == TRIES


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


class Scripted:
    """A source over HTTP that does what it is told, one entry a use: bytes to bring, then how it ends."""

    way: Way = "http"

    def __init__(self, *script: tuple[int, Exception | None], data: bytes = DATA) -> None:
        self.script = list(script)
        self.data = data
        self.began: list[int] = []

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        self.began.append(writer.offset)
        count, end = self.script.pop(0) if self.script else (size, None)
        await writer.append(self.data[writer.offset : min(size, writer.offset + count)])
        if end is not None:
            raise end


async def test_another_way_goes_on_where_the_first_one_broke_off(hub: Hub, store: ArtifactStore) -> None:
    http = Scripted((5000, NoAnswerError("the connection was lost")))
    path = await downloader(hub, store, http).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert http.began == [0]
    assert min(hub.offsets) == 5000, "nothing that is here is fetched again"


async def test_the_reverse_too(hub: Hub, store: ArtifactStore) -> None:
    hub.silent = 1_000
    policy = msgspec.structs.replace(POLICY, order=("mqtt", "http"))
    http = Scripted()
    with store.partial(DIGEST, len(DATA)) as begun:
        begun.append(DATA[:3000])
    path = await downloader(hub, store, http, policy=policy).obtain(DIGEST, len(DATA), lambda _: None)
    assert (path.read_bytes(), http.began) == (DATA, [3000])


async def test_small_files_come_by_the_connection_that_is_there(hub: Hub, store: ArtifactStore) -> None:
    policy = msgspec.structs.replace(POLICY, small_bytes=len(DATA))
    http = Scripted()
    await downloader(hub, store, http, policy=policy).obtain(DIGEST, len(DATA), lambda _: None)
    assert http.began == []
    assert downloader(hub, store, http, policy=policy).order(len(DATA) + 1) == ("http", "mqtt")


async def test_a_source_that_lies_is_dropped_and_the_other_one_asked_for_the_whole_file_once(
    hub: Hub, store: ArtifactStore
) -> None:
    http = Scripted(data=b"x" * len(DATA))
    path = await downloader(hub, store, http).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert http.began == [0], "it is not asked again"
    assert hub.offsets.count(0) == 1


async def test_where_both_had_a_part_in_wrong_bytes_each_is_asked_alone(
    hub: Hub, store: ArtifactStore
) -> None:
    http = Scripted((5000, NoAnswerError("cut")), data=b"x" * len(DATA))
    path = await downloader(hub, store, http).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert len(http.began) <= 2


async def test_asked_alone_a_way_begins_at_the_first_byte(hub: Hub, store: ArtifactStore) -> None:
    http = Scripted(
        (5000, NoAnswerError("cut")),
        (2000, TransferError("500")),
        (0, TransferError("500")),
        data=b"x" * len(DATA),
    )
    path = await downloader(hub, store, http).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert http.began[:2] == [0, 0], "what both had brought is gone"
    assert hub.offsets.count(0) == 1
    assert 2000 not in hub.offsets, "nor does it go on with what the other one brought alone"


async def test_when_both_lie_it_ends_and_is_said(hub: Hub, store: ArtifactStore) -> None:
    hub.files[DIGEST] = b"y" * len(DATA)
    http = Scripted(data=b"x" * len(DATA))
    with pytest.raises(ReleaseError, match=r"http sent wrong bytes: .*; mqtt sent wrong bytes: "):
        await downloader(hub, store, http).obtain(DIGEST, len(DATA), lambda _: None)
    assert (len(http.began), hub.offsets.count(0)) == (1, 1)


async def test_what_is_in_use_is_on_the_board_and_what_is_waited_for_too(
    hub: Hub, store: ArtifactStore
) -> None:
    transfers = Transfers()
    waits: list[Reason | None] = []
    ways: list[Way | None] = []

    class Watching(Scripted):
        async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
            ways.append(transfers.way([digest]))
            await super().download(digest, size, writer)

    http = Watching((1000, NoAnswerError("cut")), (0, NoAnswerError("cut again")))
    policy = msgspec.structs.replace(POLICY, order=("http",), backoff=Backoff(minimum=0.2, maximum=0.2))
    task = asyncio.create_task(
        downloader(hub, store, http, policy=policy, transfers=transfers).obtain(
            DIGEST, len(DATA), lambda _: None
        )
    )
    while not task.done():
        await asyncio.sleep(0.01)
        waits.append(transfers.waiting([DIGEST]))
    await task
    assert ways == ["http"] * 3
    assert any(wait is not None and "http: cut" in wait.text for wait in waits)
    assert transfers.waiting([DIGEST]) is None
    assert transfers.arrived([DIGEST]) == len(DATA)


async def test_a_pause_ends_when_the_link_comes_up(hub: Hub, store: ArtifactStore) -> None:
    http = Scripted((0, NoAnswerError("cut")))
    policy = msgspec.structs.replace(POLICY, order=("http",), backoff=Backoff(minimum=100, maximum=100))
    transfers = Transfers()
    under_test = downloader(hub, store, http, policy=policy, transfers=transfers)
    task = asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))
    while transfers.waiting([DIGEST]) is None:  # noqa: ASYNC110 - nobody announces it
        await asyncio.sleep(0.01)
    under_test.wake()
    await asyncio.wait_for(task, 5)


async def test_a_link_that_comes_up_while_another_way_hangs_is_noticed_by_the_pause_after_it(
    hub: Hub, store: ArtifactStore
) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    class Hanging(Scripted):
        async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
            asked.set()
            await go.wait()
            await super().download(digest, size, writer)

    http = Hanging((0, NoAnswerError("nothing came")))
    policy = msgspec.structs.replace(
        POLICY, order=("mqtt", "http"), backoff=Backoff(minimum=100, maximum=100)
    )
    hub.silent = 1
    under_test = downloader(hub, store, http, policy=policy)
    task = asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))
    await asyncio.wait_for(asked.wait(), 10)
    hub.silent = 0
    under_test.wake()
    go.set()
    path = await asyncio.wait_for(task, 30)
    assert path.read_bytes() == DATA
    assert min(hub.offsets) == 0


async def test_one_link_up_ends_one_pause(hub: Hub, store: ArtifactStore) -> None:
    http = Scripted((0, NoAnswerError("cut")), (0, NoAnswerError("cut again")))
    policy = msgspec.structs.replace(POLICY, order=("http",), backoff=Backoff(minimum=100, maximum=100))
    transfers = Transfers()
    under_test = downloader(hub, store, http, policy=policy, transfers=transfers)
    task = asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))

    async def waits_for(problem: str) -> None:
        while (said := transfers.waiting([DIGEST])) is None or not said.text.endswith(problem):  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)

    await asyncio.wait_for(waits_for("cut"), 10)
    under_test.wake()
    await asyncio.wait_for(waits_for("cut again"), 10)
    await asyncio.sleep(0.1)
    assert http.began == [0, 0], "the same one does not end the next"
    under_test.wake()
    await asyncio.wait_for(task, 10)


async def test_a_server_that_asks_for_time_gets_it(hub: Hub, store: ArtifactStore) -> None:
    http = Scripted((0, BusyError("503", 0.3)))
    policy = msgspec.structs.replace(POLICY, order=("http",))
    began = time.monotonic()
    await downloader(hub, store, http, policy=policy).obtain(DIGEST, len(DATA), lambda _: None)
    assert time.monotonic() - began >= 0.3


class Trickle(Scripted):
    """Brings one byte at a time."""

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        self.began.append(writer.offset)
        while writer.offset < size:
            await writer.append(self.data[writer.offset : writer.offset + 1])
            await asyncio.sleep(0.02)


async def test_a_trickle_is_stuck_and_the_other_way_goes_on(
    hub: Hub, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.service.downloads.LOOK_SECONDS", 0.05)
    policy = msgspec.structs.replace(POLICY, minimum_bytes_per_second=5000.0, stuck_seconds=0.3)
    http = Trickle()
    path = await downloader(hub, store, http, policy=policy).obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert http.began == [0]
    assert min(hub.offsets) > 0


async def test_a_trickle_alone_ends_as_a_failure_that_says_what_is_asked_for(
    hub: Hub, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.service.downloads.LOOK_SECONDS", 0.02)
    policy = msgspec.structs.replace(
        POLICY, order=("http",), minimum_bytes_per_second=5000.0, stuck_seconds=0.1
    )
    with pytest.raises(ReleaseError, match=r"http failed 3 times: .* bytes in 0\.1 s, at least 5000 bytes/s"):
        await downloader(hub, store, Trickle(), policy=policy).obtain(DIGEST, len(DATA), lambda _: None)


async def test_the_rate_limit_holds_for_all_transfers_together(tmp_path: Path, hub: Hub) -> None:
    second = bytes(reversed(DATA))
    other = Digest(hashlib.sha256(second).hexdigest())
    hub.files[other] = second
    store = ArtifactStore(tmp_path / "artifacts", quota_bytes=1 << 20)
    under_test = ArtifactDownloader(
        {"mqtt": BlockClient(hub, PATIENCE)}, store, POLICY, limit=RateLimit(len(DATA))
    )
    began = time.monotonic()
    await asyncio.gather(
        under_test.obtain(DIGEST, len(DATA), lambda _: None),
        under_test.obtain(other, len(second), lambda _: None),
    )
    assert time.monotonic() - began >= 0.95, "two files at one file a second, the first of which is free"


async def test_two_models_that_name_the_same_file_fetch_it_once(hub: Hub, store: ArtifactStore) -> None:
    under_test = downloader(hub, store)
    both = [under_test.obtain(DIGEST, len(DATA), lambda _: None) for _ in range(2)]
    assert len(set(await asyncio.gather(*both))) == 1
    assert len(hub.offsets) == len(set(hub.offsets))


class Slow(Scripted):
    """Brings pieces until it is told to stop; counts how many uses run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.running = self.most = 0
        self.begun = asyncio.Event()

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        self.began.append(writer.offset)
        self.running += 1
        self.most = max(self.most, self.running)
        self.begun.set()
        try:
            while writer.offset < size:
                await writer.append(self.data[writer.offset : writer.offset + 1024])
                await asyncio.sleep(0.01)
        finally:
            self.running -= 1


async def test_of_three_callers_one_writes_when_the_first_is_cancelled(
    hub: Hub, store: ArtifactStore
) -> None:
    http = Slow()
    under_test = downloader(hub, store, http, policy=msgspec.structs.replace(POLICY, order=("http",)))

    def call() -> asyncio.Task[Path]:
        return asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))

    third: list[asyncio.Task[Path]] = []
    first = call()
    await asyncio.wait_for(http.begun.wait(), 10)
    second = call()
    await asyncio.sleep(0)
    first.add_done_callback(lambda _: third.append(call()))  # as near to the release of its lock as can be
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    third.append(call())
    paths = await asyncio.wait_for(asyncio.gather(second, *third), 30)
    assert len(third) == 2
    assert {path.read_bytes() for path in paths} == {DATA}
    assert http.most == 1
    assert store.room().promised_bytes == 0


@pytest.mark.parametrize("turn", range(0, 40, 3))
async def test_wherever_a_caller_is_cancelled_nothing_stays_open(
    hub: Hub, store: ArtifactStore, turn: int
) -> None:
    under_test = downloader(hub, store)
    task = asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))
    for _ in range(turn):
        await asyncio.sleep(0.0005)
    task.cancel()
    await asyncio.wait({task})
    assert store.room().promised_bytes == 0
    path = await under_test.obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA


async def test_an_error_of_the_store_that_is_not_about_room_does_not_speak_of_room(
    hub: Hub, store: ArtifactStore
) -> None:
    with store.partial(DIGEST, len(DATA)):
        said = await refusal(hub, store)
    assert said.startswith("fetch-failed: artifact ")
    assert "is being written already" in said


async def test_an_offered_source_is_asked_first_and_may_go(hub: Hub, store: ArtifactStore) -> None:
    class Bundle(Scripted):
        way: Way = "bundle"

    under_test, bundle = downloader(hub, store), Bundle((2000, TransferError("the stick was pulled")))
    under_test.offer(bundle)
    path = await under_test.obtain(DIGEST, len(DATA), lambda _: None)
    assert path.read_bytes() == DATA
    assert (bundle.began, min(hub.offsets)) == ([0], 2000)
    under_test.withdraw("bundle")
    assert under_test.order(10) == ("mqtt",)


async def test_a_source_that_is_offered_while_a_server_wants_time_is_asked_at_once(
    hub: Hub, store: ArtifactStore
) -> None:
    class Bundle(Scripted):
        way: Way = "bundle"

    http, bundle = Scripted((0, BusyError("503", 600.0))), Bundle()
    policy = msgspec.structs.replace(POLICY, order=("http",))
    under_test = downloader(hub, store, http, policy=policy)
    task = asyncio.create_task(under_test.obtain(DIGEST, len(DATA), lambda _: None))
    while under_test.transfers.flow(DIGEST).waiting is None:  # noqa: ASYNC110 - waiting is not an event
        await asyncio.sleep(0.001)
    under_test.offer(bundle)
    path = await asyncio.wait_for(task, 10)
    assert path.read_bytes() == DATA
    assert (http.began, bundle.began) == ([0], [0]), "and the server was left alone"
