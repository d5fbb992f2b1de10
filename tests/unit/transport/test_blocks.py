"""What is in flight is bounded: by a writer that is slow, and on a link that is."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from agent.protocol.codec import decode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.topics import Channel
from agent.protocol.transfer import (
    Block,
    BlockRequest,
    Location,
    LocationRequest,
    TransferProblem,
    TransferRequest,
)
from agent.transport import blocks
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.errors import NoAnswerError, NoLocationError, TransferError
from agent.transport.inbox import T

DIGEST = Digest("ab" * 32)
SIZE = 64_000
SETTINGS = TransferSettings(
    block_bytes=1024, window=4, tries=3, answer=Backoff(minimum=0.2, maximum=0.2), offline_seconds=0.2
)


class SlowHub:
    """Answers one question after another, each after ``seconds``: a link with little room, in order as TCP is."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.errors: Counter[str] = Counter()
        self.connected = asyncio.Event()
        self.connected.set()
        self.requests: list[TransferRequest] = []
        self.location: Location | TransferProblem | None = None
        self._handlers: dict[type, Callable[..., None]] = {}
        self._free_at = 0.0

    def on(self, kind: type[T], handler: Callable[[T], None]) -> None:
        self._handlers[kind] = handler

    async def publish(self, channel: Channel, payload: bytes) -> None:
        assert channel is Channel.REQUEST
        request: TransferRequest = decode_msgpack(payload, TransferRequest)
        self.requests.append(request)
        loop = asyncio.get_running_loop()
        self._free_at = max(self._free_at, loop.time()) + self.seconds
        answer = self._answer(request)
        if answer is not None:
            loop.call_at(self._free_at, self._handlers[type(answer)], answer)

    def _answer(self, request: TransferRequest) -> Block | Location | TransferProblem | None:
        if isinstance(request, BlockRequest):
            length = min(request.length, SIZE - request.offset)
            return Block(id=request.id, offset=request.offset, total=SIZE, data=bytes(length))
        if self.location is None:
            return None
        return type(self.location)(
            **{
                **{name: getattr(self.location, name) for name in self.location.__struct_fields__},
                "id": request.id,
            }
        )


class Writer:
    """Takes a piece when it is let."""

    def __init__(self, *, open_now: bool) -> None:
        self.offset = 0
        self.may = asyncio.Event()
        if open_now:
            self.may.set()

    async def append(self, data: bytes) -> None:
        await self.may.wait()
        self.offset += len(data)


async def test_while_the_writer_is_busy_no_more_than_a_window_is_asked_for() -> None:
    hub, writer = SlowHub(), Writer(open_now=False)
    task = asyncio.create_task(BlockClient(hub, SETTINGS).download(DIGEST, SIZE, writer))
    await asyncio.sleep(0.3)
    assert len(hub.requests) == SETTINGS.window
    assert writer.offset == 0
    writer.may.set()
    await asyncio.wait_for(task, 10)
    assert writer.offset == SIZE


async def test_a_slow_link_is_not_asked_twice_while_its_answers_come() -> None:
    """The last of a window comes after four answers' time, which is longer than one answer is waited for."""
    hub, writer = SlowHub(0.08), Writer(open_now=True)
    client = BlockClient(hub, SETTINGS)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await client.download(DIGEST, SIZE, writer)
    assert writer.offset > 0
    offsets = [request.offset for request in hub.requests if isinstance(request, BlockRequest)]
    assert len(offsets) == len(set(offsets))
    assert hub.errors == {}


async def test_a_slow_link_is_waited_for_longer_within_bounds() -> None:
    asker = BlockClient(SlowHub(), SETTINGS)._asker
    asker._usual_seconds = 1000.0
    assert asker._patience(0) == SETTINGS.answer.maximum


async def test_blocks_are_as_long_as_the_link_brings_within_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "QUICK_SECONDS", 0.02)
    monkeypatch.setattr(blocks, "SLOW_SECONDS", 0.05)
    hub, writer = SlowHub(), Writer(open_now=True)
    await BlockClient(hub, SETTINGS).download(DIGEST, SIZE, writer)
    lengths = [request.length for request in hub.requests if isinstance(request, BlockRequest)]
    assert (lengths[0], lengths[-2]) == (256, 1024), "a quick one: longer and longer"
    slow = SlowHub(0.03)
    task = asyncio.create_task(BlockClient(slow, SETTINGS).download(DIGEST, SIZE, Writer(open_now=True)))
    await asyncio.wait({task}, timeout=1.0)
    task.cancel()
    await asyncio.wait({task})
    lengths = [request.length for request in slow.requests if isinstance(request, BlockRequest)]
    assert lengths[-1] == 1024 // blocks.SHORTER, "a slow one: shorter, to the shortest"


async def test_where_http_has_it_is_answered_or_not() -> None:
    hub = SlowHub()
    client = BlockClient(hub, SETTINGS)
    hub.location = Location(id=0, url="https://hub.example/x", etag='"x"', expires=9.0)
    assert (await client.locate(DIGEST)).url == "https://hub.example/x"
    assert isinstance(hub.requests[-1], LocationRequest)
    hub.location = TransferProblem(id=0, code="no-location", text="this hub offers no HTTP")
    with pytest.raises(NoLocationError, match="this hub offers no HTTP"):
        await client.locate(DIGEST)
    hub.location = None
    with pytest.raises(NoAnswerError, match="asked 3 times: no answer"):
        await client.locate(DIGEST)


async def test_what_it_costs_is_counted_for_what_it_is() -> None:
    spent: Counter[tuple[str, str]] = Counter()

    def counted(purpose: str, bytes_in: int, bytes_out: int) -> None:
        spent[purpose, "in"] += bytes_in
        spent[purpose, "out"] += bytes_out

    client = BlockClient(SlowHub(), SETTINGS, counted=counted, purpose=lambda _: "patches")
    await client.download(DIGEST, SIZE, Writer(open_now=True))
    with pytest.raises(TransferError):
        await client.fetch_metadata("timestamp.json", 10)
    assert SIZE < spent["patches", "in"] < SIZE * 1.2
    assert 0 < spent["patches", "out"] < SIZE / 3
    assert spent["metadata", "in"] > 0
    assert set(spent) == {(purpose, way) for purpose in ("patches", "metadata") for way in ("in", "out")}
