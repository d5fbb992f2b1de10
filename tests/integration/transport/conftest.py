"""Real brokers on free loopback ports, and a bare paho client that plays the hub or an onlooker."""

import contextlib
import json
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.support.ports import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")

RUMQTTD = """
id = 0
[router]
id = 0
max_connections = 100
max_outgoing_packet_count = 200
max_segment_size = 10485760
max_segment_count = 10
[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 5000
max_payload_size = 310000
max_inflight_count = 100
dynamic_filters = true
"""


class Broker:
    """A broker process; killed, it loses what it had and comes back on the same port."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / f"{kind}-{self.port}.toml"  # rumqttd goes by the suffix
        if kind == "mosquitto":
            assert MOSQUITTO is not None
            self._config.write_text(
                f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
            )
            self._command = [MOSQUITTO, "-c", str(self._config)]
        else:
            self._config.write_text(RUMQTTD.format(port=self.port))
            code = (
                "from iotcore._serve import main; main()"  # ends by itself when our end of its stdin closes
            )
            self._command = [sys.executable, "-c", code, json.dumps({"config_path": str(self._config)})]

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self._process.poll() is None, f"{self.kind} ended at once"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return
            time.sleep(0.02)
        raise AssertionError(f"{self.kind} does not listen on {self.port}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None


class Peer:
    """Another MQTT client: subscribes to everything, keeps what it sees, publishes what it is told."""

    def __init__(self, port: int, on_message: Callable[["Peer", MQTTMessage], None] | None = None) -> None:
        self.seen: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self._subscribed = queue.Queue[bool]()
        self._hook = on_message
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"peer-{time.monotonic_ns()}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.on_connect = lambda client, *_: client.subscribe("edgeward/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.put(True)
        self._client.on_message = lambda _client, _data, message: self._take(message)
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._subscribed.get(timeout=10)

    def _take(self, message: MQTTMessage) -> None:
        self.seen.put((message.topic, bytes(message.payload), message.retain))
        if self._hook is not None:
            self._hook(self, message)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def wait_subscribed(self) -> None:
        """Wait for the next subscription, after the broker came back."""
        self._subscribed.get(timeout=20)

    def expect(self, topic: str, payload: bytes | None = None) -> bytes:
        """Wait for a message on ``topic`` (with this payload); returns the payload."""
        deadline = time.monotonic() + 15
        while True:
            found, data, _ = self.seen.get(timeout=max(0.01, deadline - time.monotonic()))
            if found == topic and payload in (None, data):
                return data

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(
    params=[
        "rumqttd",
        pytest.param(
            "mosquitto",
            marks=pytest.mark.skipif(
                MOSQUITTO is None,
                reason="MISSING TOOL: mosquitto (apt install mosquitto); the real broker is not tested",
            ),
        ),
    ]
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    one = Broker(request.param, tmp_path)
    one.start()
    yield one
    one.kill()


@pytest.fixture
def make_peer(broker: Broker) -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(on_message: Callable[[Peer, MQTTMessage], None] | None = None) -> Peer:
        peers.append(Peer(broker.port, on_message))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()
