"""The MQTT link against real brokers: the embedded one and Mosquitto."""

import asyncio
import hashlib
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from paho.mqtt.client import MQTTMessage

from agent.protocol.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from agent.protocol.errors import MessageTooLargeError
from agent.protocol.ids import Digest
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.state import Command, DesiredState, Presence
from agent.protocol.telemetry import TelemetryAck
from agent.protocol.topics import Channel, topic
from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    TransferProblem,
    TransferRequest,
)
from agent.service.sink import Sink
from agent.service.transfers import Flow
from agent.store.artifacts import ArtifactStore
from agent.transport.asking import TransferSettings
from agent.transport.backoff import Backoff
from agent.transport.blocks import BlockClient
from agent.transport.errors import LinkDownError
from agent.transport.mqtt import MqttLink
from agent.transport.rate import MinimumRate
from agent.transport.settings import LinkSettings

T = TypeVar("T")
DEVICE = "cam-1"


class BrokerLike(Protocol):
    kind: str
    port: int

    def start(self) -> None: ...
    def kill(self) -> None: ...


class PeerLike(Protocol):
    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None: ...
    def expect(self, topic: str, payload: bytes | None = None) -> bytes: ...
    def wait_subscribed(self) -> None: ...
    def close(self) -> None: ...


MakePeer = Callable[..., PeerLike]


def new_link(broker: BrokerLike) -> MqttLink:
    settings = LinkSettings(host="127.0.0.1", port=broker.port, backoff=Backoff(minimum=0.1, maximum=0.5))
    return MqttLink(settings, device=DEVICE, boot="b1")


async def within(awaitable: Awaitable[T], seconds: float = 20) -> T:
    async with asyncio.timeout(seconds):
        return await awaitable


async def test_publish_is_acknowledged_and_seen(broker: BrokerLike, make_peer: MakePeer) -> None:
    peer = make_peer()
    async with new_link(broker) as link:
        await within(link.connected.wait())
        await within(link.publish(Channel.TELEMETRY, b'{"hello":1}'))
        online = await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.PRESENCE))
        assert decode_json(online, Presence) == Presence(online=True, boot="b1")
        await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.TELEMETRY), b'{"hello":1}')
    offline = await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.PRESENCE))
    assert decode_json(offline, Presence) == Presence(online=False, boot="b1")


async def test_largest_message_passes_both_ways_and_a_larger_one_is_refused_before_it_is_sent(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    peer = make_peer()
    acks: asyncio.Queue[TelemetryAck] = asyncio.Queue()
    async with new_link(broker) as link:
        link.on(TelemetryAck, acks.put_nowait)
        await within(link.connected.wait())
        largest = b"x" * MAX_MESSAGE_BYTES
        await within(link.publish(Channel.TELEMETRY, largest))
        await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.TELEMETRY), largest)
        with pytest.raises(MessageTooLargeError, match="262145 bytes, at most 262144"):
            await link.publish(Channel.TELEMETRY, largest + b"x")
        ack = TelemetryAck(epoch="e", sequences=tuple(range(100_000, 137_000)))
        peer.publish(topic(DEVICE, Channel.TELEMETRY_ACK), encode_json(ack))
        assert await within(acks.get()) == ack
        assert link.is_connected


async def test_retained_desired_state_reaches_a_device_that_comes_later(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    desired = DesiredState(device=DEVICE, director="{}")
    peer = make_peer()
    peer.publish(topic(DEVICE, Channel.DESIRED), encode_json(desired), retain=True)
    await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.DESIRED))
    got: asyncio.Queue[DesiredState] = asyncio.Queue()
    link = new_link(broker)
    link.on(DesiredState, got.put_nowait)
    async with link:
        assert await within(got.get()) == desired


async def test_every_connect_calls_back_also_after_the_broker_was_killed(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    peer = make_peer()
    connects: asyncio.Queue[int] = asyncio.Queue()
    commands: asyncio.Queue[Command] = asyncio.Queue()
    link = new_link(broker)

    async def publish_again() -> None:
        await link.publish(Channel.REPORTED, b'{"again":true}')
        connects.put_nowait(1)

    link.on_connect(publish_again)
    link.on(Command, commands.put_nowait)
    async with link:
        await within(connects.get())
        broker.kill()
        with pytest.raises(LinkDownError):  # whether the link has noticed yet or not
            await within(link.publish(Channel.TELEMETRY, b"{}"))
        broker.start()
        await within(connects.get())
        await asyncio.to_thread(peer.wait_subscribed)
        await within(link.publish(Channel.TELEMETRY, b'{"after":1}'))
        await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.TELEMETRY), b'{"after":1}')
        peer.publish(topic(DEVICE, Channel.COMMAND), encode_json(Command(command="sync")))
        assert await within(commands.get()) == Command(command="sync")


async def test_a_device_that_vanishes_is_announced_by_its_last_will(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    peer = make_peer()
    link = new_link(broker)
    await link.start()
    await within(link.connected.wait())
    await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.PRESENCE))
    connection = link._connection
    assert connection is not None
    wire = connection._client.socket()
    assert isinstance(wire, socket.socket)
    wire.shutdown(socket.SHUT_RDWR)  # the wire is cut with no DISCONNECT
    will = await asyncio.to_thread(peer.expect, topic(DEVICE, Channel.PRESENCE))
    assert decode_json(will, Presence) == Presence(online=False, boot="b1")
    await link.stop()


async def test_what_is_malformed_is_counted_and_the_next_message_still_comes(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    peer = make_peer()
    commands: asyncio.Queue[Command] = asyncio.Queue()
    async with new_link(broker) as link:
        link.on(Command, commands.put_nowait)
        await within(link.connected.wait())
        for payload in (
            b"",
            b"not json",
            b'{"v":2,"command":"sync"}',
            b"\xff\xfe",
            b'{"v":1,"command":"format"}',
        ):
            peer.publish(topic(DEVICE, Channel.COMMAND), payload)
        peer.publish(topic(DEVICE, Channel.RESPONSE), b"\xc1")
        for _ in range(40):  # more than the receive maximum: each was acknowledged to the broker
            peer.publish(topic(DEVICE, Channel.COMMAND), b"{")
        peer.publish(topic(DEVICE, Channel.COMMAND), encode_json(Command(command="sync")))
        await within(commands.get())
        assert link.errors == {"malformed-message": 46}


class BlockHub:
    """The hub's side of block transfer, as far as these tests need it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.answers_left = 10**9
        self.requests: list[BlockRequest] = []

    def answer(self, peer: PeerLike, message: MQTTMessage) -> None:
        if message.topic != topic(DEVICE, Channel.REQUEST):
            return
        request: TransferRequest = decode_msgpack(bytes(message.payload), TransferRequest)
        assert isinstance(request, BlockRequest)
        self.requests.append(request)
        if self.answers_left <= 0:
            return
        self.answers_left -= 1
        response: Block | TransferProblem
        if request.source == ArtifactSource(sha256=hashlib.sha256(self.content).hexdigest()):
            part = self.content[request.offset : request.offset + request.length]
            response = Block(id=request.id, offset=request.offset, total=len(self.content), data=part)
        else:
            response = TransferProblem(id=request.id, code="not-found", text="no such file")
        peer.publish(topic(DEVICE, Channel.RESPONSE), encode_msgpack(response))


async def test_a_download_resumes_after_the_hub_vanished_in_mid_file(
    broker: BrokerLike, make_peer: MakePeer, tmp_path: Path
) -> None:

    content = bytes(range(256)) * 4096  # 1 MiB: 16 blocks
    digest = Digest(hashlib.sha256(content).hexdigest())
    hub = BlockHub(content)
    hub.answers_left = 6
    first = make_peer(hub.answer)
    store = ArtifactStore(tmp_path / "artifacts", quota_bytes=2**21)
    async with new_link(broker) as link:
        client = BlockClient(link, TransferSettings(answer=Backoff(minimum=0.3, maximum=0.6), tries=40))
        with store.partial(digest, len(content)) as partial:
            seen: asyncio.Queue[int] = asyncio.Queue()
            sink = Sink(
                partial, minimum=MinimumRate(0, 60, 0), limit=None, flow=Flow(), progress=seen.put_nowait
            )
            download = asyncio.create_task(client.download(digest, len(content), sink))
            for _ in range(1 + 6):  # where it began, and each block
                here = await within(seen.get())
            first.close()  # the hub is gone, in mid-file
            asked = len(hub.requests)
            hub.answers_left = 10**9
            make_peer(hub.answer)  # and comes back
            await within(download)
            partial.finish()
        later = {request.offset for request in hub.requests[asked:]}
        assert 0 < here <= min(later), "nothing that was here was asked for again"
        assert (await within(client.fetch_metadata("timestamp.json", 1000))) is None
    assert store.verify(digest)


async def test_a_flood_that_is_not_taken_ends_the_connection_not_the_agent(
    broker: BrokerLike, make_peer: MakePeer
) -> None:
    """The event loop stands still while messages arrive: counted, and the link is up again afterwards."""
    peer = make_peer()
    settings = LinkSettings(
        host="127.0.0.1",
        port=broker.port,
        queue=2,
        queue_seconds=0.1,
        backoff=Backoff(minimum=0.05, maximum=0.1),
    )
    link = MqttLink(settings, device=DEVICE, boot="b1")
    commands: asyncio.Queue[Command] = asyncio.Queue()
    connects: asyncio.Queue[int] = asyncio.Queue()
    stalls = [1.0]

    async def connected() -> None:
        connects.put_nowait(1)

    def slow(command: Command) -> None:
        if stalls:
            time.sleep(stalls.pop())
        commands.put_nowait(command)

    link.on_connect(connected)
    link.on(Command, slow)
    async with link:
        await within(connects.get())
        for _ in range(10):
            peer.publish(topic(DEVICE, Channel.COMMAND), encode_json(Command(command="sync")))
        await within(connects.get())
        assert link.errors["queue-overflow"] >= 1
        while not commands.empty():
            commands.get_nowait()
        peer.publish(topic(DEVICE, Channel.COMMAND), encode_json(Command(command="sync")))
        await within(commands.get())
