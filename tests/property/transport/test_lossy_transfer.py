"""Blocks over a link that loses, repeats, delays, reorders and spoils: the bytes arrive, or the reason is clear."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocol.codec import decode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.topics import Channel
from agent.protocol.transfer import ArtifactSource, Block, BlockRequest, MetadataSource, TransferProblem
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.errors import LinkDownError, NoAnswerError, NotFoundError, TransferError
from agent.transport.inbox import T

BLOCK = 64
SETTINGS = TransferSettings(
    block_bytes=BLOCK,
    window=3,
    tries=60,
    answer=Backoff(minimum=0.004, maximum=0.004),
    offline_seconds=1.0,
    metadata_seconds=5.0,
)


class LossyLink:
    """A link and the hub behind it, in memory; every fault is drawn from one seed."""

    def __init__(self, files: dict[str, bytes], seed: int, fault: float) -> None:
        self.files = files
        self.random = random.Random(seed)
        self.fault = fault
        self.errors: Counter[str] = Counter()
        self.connected = asyncio.Event()
        self.connected.set()
        self.handlers: dict[type, Callable[..., None]] = {}
        self.requests: list[BlockRequest] = []
        self.most_in_flight = 0

    def on(self, kind: type[T], handler: Callable[[T], None]) -> None:
        self.handlers[kind] = handler

    async def publish(self, channel: Channel, payload: bytes) -> None:
        assert channel is Channel.REQUEST
        loop = asyncio.get_running_loop()
        if self.random.random() < self.fault / 3:  # the link goes, and comes back a little later
            self.connected.clear()
            loop.call_later(0.002, self.connected.set)
            raise LinkDownError("down")
        request: BlockRequest = decode_msgpack(payload, BlockRequest)
        self.requests.append(request)
        if self.random.random() < self.fault:
            return
        response = self.respond(request)
        for _ in range(1 + (self.random.random() < self.fault)):
            delay = self.random.random() * (0.008 if self.random.random() < self.fault else 0.0005)
            loop.call_later(delay, self.handlers[type(response)], response)

    def respond(self, request: BlockRequest) -> Block | TransferProblem:
        name = request.source.name if isinstance(request.source, MetadataSource) else request.source.sha256
        if name not in self.files:
            return TransferProblem(id=request.id, code="not-found", text="no such file")
        if self.random.random() < self.fault / 3:
            return TransferProblem(id=request.id, code="busy", text="later")
        content = self.files[name]
        data = content[request.offset : request.offset + request.length]
        if self.random.random() < self.fault / 3:
            data = data[:-1]
        return Block(id=request.id, offset=request.offset, total=len(content), data=data)


class Memory:
    def __init__(self, already: bytes = b"") -> None:
        self.data = bytearray(already)
        self.seen: list[int] = []

    @property
    def offset(self) -> int:
        return len(self.data)

    async def append(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.data += data
        self.seen.append(len(self.data))


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(0, 12 * BLOCK),
    start=st.integers(0, 12 * BLOCK),
    seed=st.integers(0, 2**32),
    fault=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_every_byte_arrives_in_order_from_wherever_it_stopped(
    size: int, start: int, seed: int, fault: float
) -> None:
    content = random.Random(seed).randbytes(size)
    digest = hashlib.sha256(content).hexdigest()
    start = min(start, size)

    async def run() -> None:
        link = LossyLink({digest: content}, seed, fault)
        client = BlockClient(link, SETTINGS, randomness=random.Random(seed))
        memory = Memory(content[:start])
        await client.download(Digest(digest), size, memory)
        assert memory.data == content
        assert memory.seen == sorted(memory.seen)
        assert all(request.offset >= start for request in link.requests)
        assert all(request.source == ArtifactSource(sha256=digest) for request in link.requests)
        assert client.waiting == 0
        if fault == 0.0:
            offsets = [request.offset for request in link.requests]
            assert offsets == sorted(set(offsets)), "each block is asked for once"
            assert len(offsets) <= -(-(size - start) // BLOCK) + 6, "and soon by the longest length"

    asyncio.run(run())


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 5 * BLOCK), seed=st.integers(0, 2**32))
def test_metadata_arrives_whole_or_is_known_to_be_absent(size: int, seed: int) -> None:
    content = random.Random(seed).randbytes(size)

    async def run() -> None:
        client = BlockClient(
            LossyLink({"3.root.json": content}, seed, 0.2), SETTINGS, randomness=random.Random(seed)
        )
        assert await client.fetch_metadata("3.root.json", size) == content
        assert await client.fetch_metadata("4.root.json", size) is None
        with pytest.raises(TransferError, match=f"{size} bytes, at most {size - 1}"):
            await client.fetch_metadata("3.root.json", size - 1)

    asyncio.run(run())


async def test_a_hub_that_never_answers_is_given_up_after_the_stated_tries() -> None:
    link = LossyLink({}, 1, 0.0)
    link.respond = lambda request: TransferProblem(id=-1, code="busy", text="")  # type: ignore[method-assign]  # to nobody
    client = BlockClient(
        link,
        TransferSettings(block_bytes=BLOCK, window=1, tries=3, answer=Backoff(minimum=0.01, maximum=0.01)),
    )
    with pytest.raises(NoAnswerError, match="asked 3 times: no answer"):
        await client.download(Digest("ab" * 32), 10, Memory())
    assert len(link.requests) == 3
    assert link.errors["request-timeout"] == 3


async def test_without_a_link_it_says_so() -> None:
    link = LossyLink({}, 1, 0.0)
    link.connected.clear()
    client = BlockClient(link, TransferSettings(offline_seconds=0.02, metadata_seconds=0.05))
    with pytest.raises(NoAnswerError, match=r"no link for 0\.02 s"):
        await client.download(Digest("ab" * 32), 10, Memory())
    patient = BlockClient(link, TransferSettings(metadata_seconds=0.02))
    with pytest.raises(NoAnswerError, match=r"timestamp\.json: not here after 0\.02 s"):
        await patient.fetch_metadata("timestamp.json", 100)


async def test_absent_or_of_another_size_ends_at_once() -> None:
    digest = Digest("ab" * 32)
    link = LossyLink({digest: b"x" * 100}, 1, 0.0)
    client = BlockClient(link, SETTINGS)
    with pytest.raises(NotFoundError, match="no such file"):
        await client.download(Digest("cd" * 32), 10, Memory())
    memory = Memory()
    with pytest.raises(TransferError, match="the hub's has 100 bytes, 90 were signed"):
        await client.download(digest, 90, memory)
    assert memory.offset == 0
