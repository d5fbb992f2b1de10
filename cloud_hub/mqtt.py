"""The hub's MQTT connection (the only file that knows paho).

paho's thread only moves messages into two bounded inboxes: telemetry, and all else, so that a flood of the one delays none of the
other. When one stays full, a message is dropped and counted: devices send again what was not acknowledged, so nothing is lost but
time.
"""

import logging
import ssl
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.protocol.topics import FROM_DEVICE, Channel, topic
from cloud_hub.config import BrokerSettings, BrokerTls
from cloud_hub.inbox import Inbox

log = logging.getLogger(__name__)

QUEUE_MESSAGES = 10_000
QUEUE_BYTES = 64 * 1024 * 1024
PATIENCE_SECONDS = 2.0
"""Far under the keepalive: while paho's thread waits for room, it does not answer the broker."""
KEEPALIVE_SECONDS = 30
RECONNECT_SECONDS = (1, 10)
INFLIGHT_MESSAGES = 150

SHARED = "$share/edgeward-ingest/"
"""Those who take telemetry are one group: the broker gives each message to one of them."""

_TELEMETRY = f"/{Channel.TELEMETRY}"


class Message(Struct, frozen=True):
    topic: str
    payload: bytes

    @property
    def size(self) -> int:
        return len(self.payload)


class Connected(Struct, frozen=True):
    """The broker took us, for the first time or again: whatever it knew may be gone."""

    @property
    def size(self) -> int:
        return 0


Incoming = Message | Connected


class MqttLink:
    """Connect, subscribe to ``channels`` of the devices, publish what they wait for."""

    def __init__(
        self,
        settings: BrokerSettings,
        client_id: str,
        count: Callable[[str], None],
        channels: AbstractSet[Channel] = FROM_DEVICE,
    ) -> None:
        self._settings = settings
        self._count = count
        self._topics = [_subscription(channel, settings) for channel in sorted(channels)]
        self.incoming: Inbox[Incoming] = Inbox(
            messages=QUEUE_MESSAGES, octets=QUEUE_BYTES, patience=PATIENCE_SECONDS
        )
        """All but telemetry."""
        self.telemetry: Inbox[Message] = Inbox(
            messages=QUEUE_MESSAGES, octets=QUEUE_BYTES, patience=PATIENCE_SECONDS
        )
        self.connected = False
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        client.max_inflight_messages_set(INFLIGHT_MESSAGES)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        if settings.tls is not None:
            client.tls_set_context(broker_tls(settings.tls))
        self._client = client

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self._client.connect_async(self._settings.host, self._settings.port, keepalive=KEEPALIVE_SECONDS)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, to: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue one message at QoS 1; without a connection it is dropped, since a connect publishes anew."""
        self._publish(to, payload, 1, retain=retain)

    def acknowledge(self, to: str, payload: bytes) -> None:
        """Queue one message at QoS 0: a device that does not hear it sends again."""
        self._publish(to, payload, 0)

    def receive(self, most: int, timeout: float) -> list[Message]:
        """Telemetry that has come, the oldest first."""
        return self.telemetry.get(most, timeout)

    def _publish(self, to: str, payload: bytes, qos: int, *, retain: bool = False) -> None:
        if not self._client.is_connected():
            self._count("not-connected")
            return
        self._client.publish(to, payload, qos=qos, retain=retain)

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.error("broker refused the hub", extra={"reason": str(reason)})
            return
        client.subscribe([(each, 1) for each in self._topics])

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: Any,
        _message: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        refused = [name for name, reason in zip(self._topics, reasons, strict=False) if reason.is_failure]
        if refused:
            log.error("broker refused subscriptions", extra={"topics": ", ".join(refused)})
            return
        self.connected = True
        log.info("connected to the broker", extra={"host": self._settings.host, "port": self._settings.port})
        self.incoming.put(Connected(), whatever=True)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        _flags: Any,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.connected = False
        log.warning("connection to the broker is gone", extra={"reason": str(reason)})

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            name = message.topic
        except UnicodeDecodeError:
            self._count("unknown-topic")
            return
        inbox = self.telemetry if name.endswith(_TELEMETRY) else self.incoming
        if not inbox.put(Message(name, bytes(message.payload))):
            self._count("overflow")


def _subscription(channel: Channel, settings: BrokerSettings) -> str:
    """The embedded broker serves one hub and shares nothing."""
    shared = channel is Channel.TELEMETRY and not settings.embedded
    return SHARED * shared + topic("+", channel)


def broker_tls(files: BrokerTls) -> ssl.SSLContext:
    """Of a client that shows its certificate."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    return context
