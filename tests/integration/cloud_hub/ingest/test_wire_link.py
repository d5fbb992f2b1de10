"""The hub's own MQTT against the real broker: what it was not thanked for comes again, a restart is survived, a refusal is said."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.protocol.topics import Channel
from agent.transport.settings import TlsFiles
from cloud_hub.config import BrokerSettings, BrokerTls
from cloud_hub.devices.authority import DeviceAuthority, create_authority
from cloud_hub.inbox import Inbox
from cloud_hub.ingest.wire_link import WireLink
from cloud_hub.mqtt import SHARED, Message, MqttLink
from tests.support.mosquitto import MOSQUITTO, Broker, Peer

PATIENCE = 30.0
TOPIC = "edgeward/v1/cam-1/telemetry"

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto (Debian package mosquitto) is not installed"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    now, pki = time.time(), tmp_path / "tls"
    create_authority(tmp_path / "authority", now)
    authority = DeviceAuthority(tmp_path / "authority")
    authority.issue_broker_files(pki, ["127.0.0.1"], 2, now)
    authority.issue_ingest_files(pki, "1", 2, now)
    made = Broker(tmp_path, pki)
    made.start()
    yield made
    made.stop()


def link(broker: Broker, count: Callable[[str], None], certificate: str = "ingest-1") -> WireLink:
    files = {"certificate": f"{certificate}.pem", "key": f"{certificate}.key", "authority": "ca.pem"}
    tls = BrokerTls(**{name: str(broker.pki / file) for name, file in files.items()})
    settings = BrokerSettings(embedded=False, port=broker.port, tls=tls)
    return WireLink(settings, certificate, f"{SHARED}edgeward/v1/+/telemetry", count)


def device(broker: Broker) -> Peer:
    pki = broker.pki
    peer = Peer(
        broker.port,
        TlsFiles(certificate=pki / "hub.pem", key=pki / "hub.key", authority=pki / "ca.pem"),
        "hub",
    )
    assert not peer.open().is_failure
    return peer


def receive(one: WireLink, count: int) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += one.receive(count - len(found), 0.1)
    return found


def wait_connected(one: WireLink) -> None:
    deadline = time.monotonic() + PATIENCE
    while not one.connected:
        assert time.monotonic() < deadline
        assert one.receive(10, 0.1) == []


def test_messages_come_in_order_whatever_their_size_and_acknowledgements_go_out(broker: Broker) -> None:
    counted: Counter[str] = Counter()
    with closing(link(broker, lambda kind: counted.update([kind]))) as one, closing(device(broker)) as sender:
        one.acknowledge("edgeward/v1/cam-1/telemetry/ack", b"before there is a connection")
        wait_connected(one)
        sender.subscribe("edgeward/v1/+/telemetry/ack")
        payloads = [bytes([number]) * size for number, size in enumerate((1, 200, 20_000, 250_000, 3))]
        for payload in payloads:
            sender.send(TOPIC, payload)
        assert receive(one, 5) == [Message(TOPIC, payload) for payload in payloads]
        one.acknowledge(f"{TOPIC}/ack", b"safe")
        one.receive(1, 0)
        assert sender.receive() == (f"{TOPIC}/ack", b"safe")
    assert counted == {"not-connected": 1}


def test_it_comes_back_when_the_broker_does(broker: Broker) -> None:
    with closing(link(broker, lambda _kind: None)) as one:
        wait_connected(one)
        broker.stop()
        deadline = time.monotonic() + PATIENCE
        while one.connected:
            assert time.monotonic() < deadline
            assert one.receive(10, 0.1) == []
        broker.start()
        wait_connected(one)
        with closing(device(broker)) as sender:
            sender.send(TOPIC, b"again")
            assert receive(one, 1) == [Message(TOPIC, b"again")]


def test_without_a_certificate_that_the_broker_takes_it_goes_on_trying(
    broker: Broker, tmp_path: Path
) -> None:
    create_authority(tmp_path / "strangers", time.time())
    DeviceAuthority(tmp_path / "strangers").issue_ingest_files(broker.pki, "stranger", 2, time.time())
    with closing(link(broker, lambda _kind: None, "ingest-stranger")) as one:
        assert one.receive(10, 0.1) == []
        assert not one.connected
        assert one.receive(10, 0.1) == []


def test_what_the_inbox_of_serve_has_no_room_for_is_counted_and_not_acknowledged_and_comes_again(
    broker: Broker,
) -> None:
    """With paho, as ``serve`` does it; nobody takes from the inbox while the first twenty come."""
    counted: Counter[str] = Counter()
    tls = BrokerTls(
        authority=str(broker.pki / "ca.pem"),
        certificate=str(broker.pki / "ingest-1.pem"),
        key=str(broker.pki / "ingest-1.key"),
    )
    settings = BrokerSettings(embedded=False, port=broker.port, tls=tls)
    one = MqttLink(settings, "ingest-1", lambda kind: counted.update([kind]), frozenset({Channel.TELEMETRY}))
    one.telemetry = Inbox(messages=5, octets=1_000_000, patience=0.05)
    payloads = [b"%d" % number for number in range(20)]
    with closing(device(broker)) as sender:
        one.start()
        try:
            _until(lambda: one.connected)
            for payload in payloads:
                sender.send(TOPIC, payload)
            _until(lambda: counted["overflow"] == 15)
            taken = [message.payload for message in one.receive(100, 0)]
            assert taken == payloads[:5]
            for payload in payloads[5:]:  # as a device does, which was not told that they are safe
                sender.send(TOPIC, payload)
                taken += [message.payload for message in one.receive(1, PATIENCE)]
            assert taken == payloads
        finally:
            one.stop()


def test_the_brokers_two_answers_may_come_in_one_read() -> None:
    """Which a broker does by chance, and this one always."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = BrokerSettings(embedded=False, port=server.getsockname()[1])
        one = WireLink(settings, "test", "t", lambda _kind: None)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x20\x03\x00\x00\x00" + b"\x90\x04\x00\x01\x00\x01")
                connection.recv(4096)

        broker = threading.Thread(target=answer)
        broker.start()
        with closing(one):
            assert one.receive(1, 0) == []
            assert one.connected
        broker.join(PATIENCE)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
