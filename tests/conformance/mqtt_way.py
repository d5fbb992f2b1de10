"""Over MQTT: a broker on loopback, the device's link and block client, and the hub's answers on top of a web server."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx
from tuf.api.metadata import TargetFile

from agent.protocol.codec import decode_msgpack, encode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.topics import Channel, parse_topic, topic
from agent.protocol.transfer import BlockRequest, TransferRequest
from agent.protocol.verification import FetchedMetadata
from agent.transport.blocks import BlockClient
from agent.transport.errors import TransferError
from agent.transport.mqtt import MqttLink
from agent.transport.settings import LinkSettings
from agent.transport.sources import ByteWriter
from cloud_hub.bridge.transfer import answer
from cloud_hub.config import BrokerSettings
from cloud_hub.mqtt import Message
from cloud_hub.mqtt import MqttLink as HubLink
from tests.conformance.http_way import ABSENT, address_of
from tests.support.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
DEVICE = "conformance"
SECONDS = 10.0


class MqttWay:
    """A repository behind a bridge; :func:`open_mqtt_way` makes one."""

    def __init__(self, blocks: BlockClient, bridge: "Bridge") -> None:
        self._blocks, self._bridge = blocks, bridge

    async def metadata(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        try:
            return FetchedMetadata(data=await self._blocks.fetch_metadata(name, maximum_bytes))
        except TransferError as error:
            return FetchedMetadata(data=None, error=str(error))

    async def artifact(self, target: TargetFile, path: str, writer: ByteWriter) -> None:
        await self._blocks.download(self._bridge.offer(target, path), target.length, writer)


@asynccontextmanager
async def open_mqtt_way(folder: Path, metadata_base: str, target_base: str) -> AsyncIterator[MqttWay]:
    """Everything from the web server to a connected device."""
    with _broker(folder) as port, Bridge(port, metadata_base, target_base) as bridge:
        link = MqttLink(LinkSettings(host="127.0.0.1", port=port), device=DEVICE, boot="b")
        blocks = BlockClient(link)
        async with link:
            await link.connected.wait()
            yield MqttWay(blocks, bridge)


class Bridge:
    """The hub's side: its link and its answers, with a web server in the place of its stores."""

    def __init__(self, port: int, metadata_base: str, target_base: str) -> None:
        self._metadata = _Metadata(metadata_base)
        self._artifacts = _Artifacts(target_base)
        settings = BrokerSettings(embedded=False, port=port)
        self._link = HubLink(settings, "hub", lambda _kind: None)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge", daemon=True)

    def __enter__(self) -> Self:
        self._link.start()
        # A request before the subscription would wait for the device's patience.
        self._link.incoming.get(1, SECONDS)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(SECONDS)
        self._link.stop()

    def offer(self, target: TargetFile, path: str) -> Digest:
        """Say where an artifact is that will be asked for; returns its address."""
        return self._artifacts.offer(target, path)

    def _run(self) -> None:
        while not self._stop.is_set():
            for item in self._link.incoming.get(1, 0.05):
                if isinstance(item, Message):
                    self._take(item)

    def _take(self, message: Message) -> None:
        device, channel = parse_topic(message.topic)
        if channel is Channel.REQUEST:
            request: TransferRequest = decode_msgpack(message.payload, TransferRequest)
            assert isinstance(request, BlockRequest)
            response = answer(request, self._metadata, self._artifacts)  # type: ignore[arg-type]  # two of a store's methods
            self._link.publish(topic(device, Channel.RESPONSE), encode_msgpack(response))


class _Metadata:
    """A :class:`cloud_hub.signing.store.MetadataStore`; a long file is asked for once, however many its blocks."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._newest: tuple[str, bytes] | None = None

    def get(self, name: str) -> bytes | None:
        if self._newest is not None and self._newest[0] == name:
            return self._newest[1]
        data = _get(self._base + name)
        self._newest = None if data is None else (name, data)
        return data


class _Artifacts:
    """What :func:`answer` needs of the hub's artifact store."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._urls: dict[str, str] = {}
        self._data: dict[str, bytes | None] = {}

    def offer(self, target: TargetFile, path: str) -> Digest:
        url = self._base + path
        address = address_of(target, url)
        self._urls[address] = url
        return address

    def size(self, digest: str) -> int | None:
        if digest not in self._data:
            self._data[digest] = _get(self._urls[digest]) if digest in self._urls else None
        data = self._data[digest]
        return None if data is None else len(data)

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        return (self._data[digest] or b"")[offset : offset + length]


def _get(url: str) -> bytes | None:
    response = httpx.get(url, timeout=SECONDS)
    if response.status_code in ABSENT:
        return None
    return response.raise_for_status().content


@contextmanager
def _broker(folder: Path) -> Iterator[int]:
    """A Mosquitto of our own on loopback; its port."""
    if MOSQUITTO is None:
        raise SystemExit("MISSING TOOL: mosquitto (apt install mosquitto)")
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\n"
    )
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"mosquitto does not listen: {(folder / 'mosquitto.log').read_text()}")
            time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()
