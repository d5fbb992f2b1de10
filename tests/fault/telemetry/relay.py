"""Somebody between the devices and the hub who delivers telemetry again: twice, late, out of order."""

import random
import ssl
import threading
import time
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.topics import Channel, topic
from agent.store.durable_file import create_durable
from agent.transport.identity import create_key, signing_request
from agent.transport.identity_files import IdentityFiles
from cloud_hub.devices.authority import DeviceAuthority

NAME = "relay"
ACL = f"\nuser {NAME}\ntopic readwrite edgeward/v1/#\ntopic read $SYS/#\n"
DROPPED = "$SYS/broker/publish/messages/dropped"
KEPT = 2_000


def relay_identity(folder: Path, authority: DeviceAuthority) -> IdentityFiles:
    """A client certificate for the relay."""
    folder.mkdir()
    files = IdentityFiles.within(folder)
    create_key(files, create_durable)
    certificate = authority.issue(signing_request(files, NAME), NAME, 1, time.time())
    files.certificate.write_text(certificate.pem)
    files.authority.write_text(authority.pem)
    return files


class Relay:
    """Keeps what devices send and sends some of it again; a broker that dies takes the connection, not the memory."""

    def __init__(self, port: int, identity: IdentityFiles, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._kept: list[tuple[str, bytes]] = []
        self._own: set[int] = set()
        self.dropped = 0
        """Messages that brokers dropped because a queue was full, by their own count."""
        self._of_this_broker = 0
        self.sent_again = 0
        self._client = client = Client(CallbackAPIVersion.VERSION2, NAME, protocol=MQTTv5)
        context = ssl.create_default_context(cafile=str(identity.authority))
        context.load_cert_chain(identity.certificate, identity.key)
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.connect_async("127.0.0.1", port)
        client.loop_start()

    def again(self, count: int) -> None:
        """Send ``count`` messages again, chosen at random, so in any order."""
        with self._lock:
            chosen = self._random.choices(self._kept, k=count) if self._kept else []
        if not self._client.is_connected():
            return
        for name, payload in chosen:
            self._client.publish(name, payload, qos=1)
            self.sent_again += 1

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: Client, *_rest: Any) -> None:
        self._of_this_broker = 0
        client.subscribe([(topic("+", Channel.TELEMETRY), 1), (DROPPED, 0)])

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == DROPPED:
            now = int(message.payload)
            self.dropped += max(0, now - self._of_this_broker)
            self._of_this_broker = now
            return
        payload = bytes(message.payload)
        with self._lock:
            if hash(payload) not in self._own and len(self._kept) < KEPT:
                self._own.add(hash(payload))
                self._kept.append((message.topic, payload))
