"""The broker: somebody else's, a stolen one that breaks MQTT itself, and devices that use a real one against each other."""

import contextlib
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.topics import FROM_HUB, Channel, topic
from agent.transport.identity import create_key, signing_request, store_certificate
from agent.transport.identity_files import IdentityFiles
from cloud_hub.devices.authority import DeviceAuthority
from tests.acceptance.processes import wait_for
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.false_broker import TLS_HELLO, Attack, FalseBroker, length, publish
from tests.fault.attacks.hostile_hub import HostileHub
from tests.support.certificates import Authority
from tests.support.mosquitto import Broker, Peer

NOT_AUTHORIZED = 0x87
DAY = 86_400


def of_another_authority(_authority: Path, folder: Path) -> tuple[Path, Path]:
    files = Authority(folder).issue("broker")
    return Path(files.certificate), Path(files.key)


def expired(authority: Path, folder: Path) -> tuple[Path, Path]:
    DeviceAuthority(authority).issue_broker_files(folder, ["127.0.0.1"], 1, time.time() - 3 * DAY)
    return folder / "broker.pem", folder / "broker.key"


def of_a_device(authority: Path, folder: Path) -> tuple[Path, Path]:
    """A device that was enrolled like every other one: the same authority, and no broker's name."""
    files = identity(authority, folder, "cam-2")
    return files.certificate, files.key


def none_at_all(_authority: Path, _folder: Path) -> None:
    return None


def identity(authority: Path, folder: Path, name: str) -> IdentityFiles:
    """What enrolment gives to a device."""

    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        path.write_bytes(data)
        path.chmod(mode)

    folder.mkdir(exist_ok=True)
    files, issuer = IdentityFiles.within(folder), DeviceAuthority(authority)
    create_key(files, write)
    certificate = issuer.issue(signing_request(files, name), name, 1, time.time())
    store_certificate(files, name, certificate.pem, issuer.pem, write)
    return files


@pytest.fixture
def elsewhere(device: AttackedDevice) -> Iterator[Callable[[FalseBroker], FalseBroker]]:
    """Leads the device to a false broker; afterwards to the real one, which a start of the agent finds at once.

    Without it the pauses between tries, which double, would be most of the test.
    """
    real = device.line.target
    opened: list[FalseBroker] = []

    def lead(broker: FalseBroker) -> FalseBroker:
        opened.append(broker)
        device.line.lead_to(broker.port)
        return broker

    yield lead
    device.stop()
    device.line.lead_to(real)
    for broker in opened:
        broker.close()
    device.start()


def test_brokers_that_are_not_the_hubs(
    device: AttackedDevice,
    authority: Path,
    tmp_path: Path,
    elsewhere: Callable[[FalseBroker], FalseBroker],
) -> None:
    """Nothing is said to them, not even who this is; clients are answered, and the device goes on looking for its own."""
    for make in (of_another_authority, expired, of_a_device, none_at_all):
        impostor = elsewhere(FalseBroker(make(authority, tmp_path / make.__name__)))
        wait_for(f"the device to ask {make.__name__}", lambda: impostor.refused, seconds=SECONDS, every=0.05)  # noqa: B023
        assert not device.status().connected
        assert device.answer() is not None
        assert set(impostor.heard) <= {TLS_HELLO}


def test_a_device_comes_back_by_itself(device: AttackedDevice) -> None:
    """Whoever cuts the line: the next try finds the broker again."""
    device.line.cut()
    wait_for(
        "the cut", lambda: device.errors().get("link-failed") or not device.status().connected, seconds=5
    )
    wait_for("the device to be back", lambda: device.status().connected, seconds=SECONDS, every=0.1)


def malformed(connection: ssl.SSLSocket) -> None:
    """A property that does not exist, in a packet whose length is right."""
    connection.sendall(bytes([0x32, 12, 0, 1]) + b"x" + b"\x00\x01" + b"\x05\xfe\xff\xff\xff\xff" + b"x")


def unknown_packet(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"\xf0\x00")


def no_length(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"\x32\xff\xff\xff\xff\xff\xff")


def acknowledges_nothing(connection: ssl.SSLSocket) -> None:
    """Acknowledgements of packets that were never sent, then an empty one."""
    connection.sendall(b"\x40\x02\xff\xff" * 100 + b"\x90\x03\x12\x34\x00" + b"\x40\x00")


def endless_packet(connection: ssl.SSLSocket) -> None:
    """268 MB announced, though the client has said that it takes 260 KB."""
    connection.sendall(bytes([0x32]) + length(268_435_455))
    with contextlib.suppress(OSError):
        for _ in range(1_000):
            connection.sendall(bytes(2**18))


def exactly_once(connection: ssl.SSLSocket) -> None:
    """Messages of QoS 2, which was never asked for: a client keeps each until it is released, which never happens."""
    payload = bytes(MAX_MESSAGE_BYTES)
    with contextlib.suppress(OSError):
        for number in range(1, 1_000):
            connection.sendall(publish("edgeward/v1/cam-1/desired", payload, qos=2, identity=number))


@pytest.mark.parametrize(
    "attacks",
    [(malformed, unknown_packet, no_length), (acknowledges_nothing, endless_packet, exactly_once)],
    ids=["broken", "boundless"],
)
def test_a_stolen_broker_that_breaks_mqtt(
    device: AttackedDevice,
    broker: Broker,
    elsewhere: Callable[[FalseBroker], FalseBroker],
    attacks: tuple[Attack, ...],
) -> None:
    """It has the real certificate. The connection is given up, memory stays bounded, and the next connection is a new one."""
    files = (broker.pki / "broker.pem", broker.pki / "broker.key")
    memory = device.memory_mib()
    false = elsewhere(FalseBroker(files, broker.pki / "ca.pem", attacks))
    most = memory

    def given_up() -> bool:
        nonlocal most
        most = max(most, device.memory_mib())
        return false.ended >= len(attacks)

    wait_for("the device to give each connection up", given_up, seconds=SECONDS, every=0.02)
    assert most < memory + 24
    assert device.answer() is not None


@pytest.fixture
def other(broker: Broker, authority: Path, tmp_path: Path) -> Iterator[Peer]:
    """A client with the certificate of another enrolled device."""
    peer = Peer(broker.port, identity(authority, tmp_path / "identity", "cam-2").tls(), "cam-1")
    assert not peer.open().is_failure
    yield peer
    peer.close()


def test_another_devices_certificate_opens_none_of_this_ones_topics(
    hub: HostileHub, device: AttackedDevice, other: Peer
) -> None:
    director, _ = device.order(1)
    before = device.errors()
    for channel in Channel:
        assert other.publish(topic(device.name, channel), director).value == NOT_AUTHORIZED, channel
    for channel in FROM_HUB:
        other.subscribe(topic(device.name, channel))
    other.subscribe("edgeward/v1/#")
    hub.publish(device.name, Channel.COMMAND, b'{"v": 1, "command": "sync"}')
    device.commits(1)
    assert other.messages.empty()
    assert {kind for kind in device.errors() if device.errors()[kind] != before.get(kind)} <= {"link-failed"}
