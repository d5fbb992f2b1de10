"""Identity and access rules of packaging/mosquitto, proven on the real broker with client certificates."""

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.protocol.ids import is_name
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, Channel, topic

FILES = Path(__file__).parents[3] / "packaging" / "mosquitto"
NOT_AUTHORIZED = 0x87
PACKET_OVERHEAD = 4096

# The fixtures' own classes live in conftest.py, which importlib mode does not let a test import.
Broker = Any
Authority = Any
PeerOf = Callable[..., Any]


def first_bytes(broker: Broker, context: ssl.SSLContext) -> bytes:
    """What the broker answers to a client that only listens."""
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return secure.recv(1)


def test_without_a_client_certificate_there_is_no_connection(broker: Broker) -> None:
    context = ssl.create_default_context(cafile=broker.pki / "ca.pem")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        first_bytes(broker, context)


def test_a_certificate_of_another_authority_is_refused(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "strangers").mkdir()
    stranger = type(authority)(tmp_path / "strangers")
    stranger.issue("hub", "Edgeward-Hub")
    context = ssl.create_default_context(cafile=broker.pki / "ca.pem")
    context.load_cert_chain(stranger.folder / "hub.pem", stranger.folder / "hub.key")
    with pytest.raises(ssl.SSLError, match=r"UNKNOWN_CA|BAD_SIGNATURE|DECRYPT_ERROR|DECRYPTION_FAILED"):
        first_bytes(broker, context)


def test_a_certificate_that_was_revoked_is_refused(
    stopped_broker: Broker, authority: Authority, peer: PeerOf
) -> None:
    authority.revoke(authority.issue("camera-1", "camera-1"))
    with stopped_broker.config.open("a") as config:
        config.write(f"crlfile {stopped_broker.pki / 'revoked.pem'}\n")
    stopped_broker.start()
    context = ssl.create_default_context(cafile=stopped_broker.pki / "ca.pem")
    context.load_cert_chain(stopped_broker.pki / "camera-1.pem", stopped_broker.pki / "camera-1.key")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REVOKED"):
        first_bytes(stopped_broker, context)
    peer("camera-2")


@pytest.mark.parametrize("channel", sorted(FROM_DEVICE))
def test_a_device_writes_its_own_topics_and_the_hub_reads_them(
    broker: Broker, peer: PeerOf, channel: Channel
) -> None:
    hub, device = peer("hub"), peer("camera-1")
    hub.subscribe("edgeward/v1/#")
    assert not device.publish(topic("camera-1", channel), b"mine").is_failure
    assert hub.receive() == (topic("camera-1", channel), b"mine")


@pytest.mark.parametrize("channel", sorted(FROM_HUB))
def test_the_hub_writes_to_a_device_and_no_other_device_reads_it(
    broker: Broker, peer: PeerOf, channel: Channel
) -> None:
    hub, device, other = peer("hub"), peer("camera-1"), peer("camera-2")
    for one in (device, other):
        one.subscribe("edgeward/v1/#")
        one.subscribe(topic("camera-1", channel))
    assert not hub.publish(topic("camera-1", channel), b"for one").is_failure
    assert not hub.publish(topic("camera-2", channel), b"for two").is_failure
    assert device.receive() == (topic("camera-1", channel), b"for one")
    assert other.receive() == (topic("camera-2", channel), b"for two")


def test_a_device_reads_nothing_that_devices_write(broker: Broker, peer: PeerOf) -> None:
    hub, device, other = peer("hub"), peer("camera-1"), peer("camera-2")
    other.subscribe("edgeward/v1/#")
    for channel in FROM_DEVICE:
        device.publish(topic("camera-1", channel), b"not for you", retain=True)
        other.publish(topic("camera-2", channel), b"nor back to me")
    hub.publish(topic("camera-2", Channel.DESIRED), b"the first it sees")
    assert other.receive() == (topic("camera-2", Channel.DESIRED), b"the first it sees")


@pytest.mark.parametrize("channel", sorted(Channel))
def test_a_device_cannot_write_another_devices_topics(broker: Broker, peer: PeerOf, channel: Channel) -> None:
    hub, device = peer("hub"), peer("camera-1")
    hub.subscribe("edgeward/v1/#")
    assert device.publish(topic("camera-2", channel), b"forged", retain=True).value == NOT_AUTHORIZED
    device.publish(topic("camera-1", Channel.REPORTED), b"the first it sees")
    assert hub.receive() == (topic("camera-1", Channel.REPORTED), b"the first it sees")


@pytest.mark.parametrize(
    "target",
    [*(topic("camera-1", channel) for channel in sorted(FROM_HUB)), "edgeward/v1/other", "elsewhere"],
)
def test_a_device_cannot_write_what_is_the_hubs_or_nobodys(broker: Broker, peer: PeerOf, target: str) -> None:
    assert peer("camera-1").publish(target, b"forged").value == NOT_AUTHORIZED


def test_a_will_on_another_devices_topic_is_not_sent(broker: Broker, peer: PeerOf) -> None:
    hub = peer("hub")
    hub.subscribe("edgeward/v1/#")
    forger = peer("camera-1", will=topic("camera-2", Channel.REPORTED))
    honest = peer("camera-2", will=topic("camera-2", Channel.PRESENCE))
    forger.cut()
    honest.cut()
    assert hub.receive() == (topic("camera-2", Channel.PRESENCE), b"gone")
    hub.publish(topic("camera-2", Channel.COMMAND), b"one turn of the broker later")
    assert hub.receive() == (topic("camera-2", Channel.COMMAND), b"one turn of the broker later")


def test_a_device_cannot_take_over_another_ones_session(broker: Broker, peer: PeerOf) -> None:
    first = peer("camera-1", client_id="camera-1")
    peer("camera-2", client_id="camera-1")
    assert not first.publish(topic("camera-1", Channel.REPORTED), b"still here").is_failure
    assert first.lost.empty()


def test_the_largest_message_arrives_and_an_oversized_one_ends_the_connection(
    broker: Broker, peer: PeerOf
) -> None:
    hub, device, other = peer("hub"), peer("camera-1"), peer("camera-2")
    hub.subscribe("edgeward/v1/#")
    telemetry = topic("camera-1", Channel.TELEMETRY)
    assert not device.publish(telemetry, bytes(MAX_MESSAGE_BYTES)).is_failure
    assert len(hub.receive()[1]) == MAX_MESSAGE_BYTES
    device.send(telemetry, bytes(MAX_MESSAGE_BYTES + PACKET_OVERHEAD))
    # The reason is read at the broker: it closes with bytes unread, so the reset can overtake its last packet.
    device.lost.get(timeout=10)
    broker.wait_until_it_says("Client camera-1 disconnected due to oversize packet")
    other.publish(topic("camera-2", Channel.TELEMETRY), b"the next it sees")
    assert hub.receive() == (topic("camera-2", Channel.TELEMETRY), b"the next it sees")


def test_retained_desired_state_reaches_a_device_that_comes_later_and_survives_a_restart(
    broker: Broker, peer: PeerOf
) -> None:
    desired = topic("camera-1", Channel.DESIRED)
    hub = peer("hub")
    assert not hub.publish(desired, b"release 2", retain=True).is_failure
    device = peer("camera-1")
    device.subscribe(desired)
    assert device.receive() == (desired, b"release 2")
    for one in (hub, device):
        one.close()
    broker.stop()
    broker.start()
    again = peer("camera-1")
    again.subscribe(desired)
    assert again.receive() == (desired, b"release 2")


def test_the_names_of_the_hubs_processes_can_be_no_devices() -> None:
    users = re.findall(r"^user (.+)$", (FILES / "acl").read_text(), re.MULTILINE)
    assert users == ["Edgeward-Hub", "Edgeward-Ingest-1", "Edgeward-Ingest-2"]
    assert not any(is_name(user) for user in users)


def test_a_process_that_ingests_hears_telemetry_shared_out_and_acknowledges_it_and_nothing_else(
    broker: Broker, peer: PeerOf, authority: Authority
) -> None:
    for number in ("1", "2"):
        authority.issue(f"ingest-{number}", f"Edgeward-Ingest-{number}")
    workers = [peer("ingest-1"), peer("ingest-2")]
    device, hub = peer("camera-1"), peer("hub")
    for worker in workers:
        worker.subscribe("$share/edgeward-ingest/edgeward/v1/+/telemetry")
        worker.subscribe("edgeward/v1/+/reported")
    device.publish(topic("camera-1", Channel.REPORTED), b"not for them")
    sent = {b"%d" % number for number in range(4)}
    for payload in sent:
        device.publish(topic("camera-1", Channel.TELEMETRY), payload)
    hub.subscribe("edgeward/v1/+/telemetry/ack")
    refused = workers[0].publish(topic("camera-1", Channel.DESIRED), b"mine")
    assert refused.is_failure or "no matching" in str(refused).lower()
    assert not workers[0].publish(topic("camera-1", Channel.TELEMETRY_ACK), b"ack").is_failure
    assert hub.receive() == (topic("camera-1", Channel.TELEMETRY_ACK), b"ack")
    heard = [worker.messages.get(timeout=10).payload for worker in workers for _ in range(2)]
    assert sorted(heard) == sorted(sent)  # each once, both in turn, and no report


def test_the_rules_name_the_protocols_channels_and_limit() -> None:
    rules = re.findall(
        r"^pattern (read|write) edgeward/v1/%u/(\S+)$", (FILES / "acl").read_text(), re.MULTILINE
    )
    assert {channel for right, channel in rules if right == "write"} == FROM_DEVICE
    assert {channel for right, channel in rules if right == "read"} == FROM_HUB
    config = (FILES / "mosquitto.conf").read_text()
    limits = re.findall(r"^max_packet_size (\d+)$", config, re.MULTILINE)
    assert limits == [str(MAX_MESSAGE_BYTES + PACKET_OVERHEAD)]


def test_every_placeholder_is_explained() -> None:
    used = set(re.findall(r"@[A-Z]+@", (FILES / "mosquitto.conf").read_text()))
    explained = set(re.findall(r"^\| `(@[A-Z]+@)`", (FILES / "README.md").read_text(), re.MULTILINE))
    assert used == explained
