"""The hub's MQTT connection (the only file that knows paho).

paho's thread only moves messages into a bounded queue. When it is full, a message is dropped and counted: devices
send again what was not acknowledged, so nothing is lost but time.
"""

import logging
import queue
import ssl
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.protocol.topics import FROM_DEVICE, topic
from cloud_hub.config import BrokerSettings

log = logging.getLogger(__name__)

QUEUE_MESSAGES = 10_000
KEEPALIVE_SECONDS = 30
RECONNECT_SECONDS = (1, 10)
INFLIGHT_MESSAGES = 150


class Message(Struct, frozen=True):
    topic: str
    payload: bytes


class Connected(Struct, frozen=True):
    """The broker took us, for the first time or again: whatever it knew may be gone."""


Incoming = Message | Connected


class MqttLink:
    """Connect, subscribe to what devices send, publish what they wait for."""

    def __init__(self, settings: BrokerSettings, client_id: str, count: Callable[[str], None]) -> None:
        self._settings = settings
        self._count = count
        self.incoming: queue.Queue[Incoming] = queue.Queue(maxsize=QUEUE_MESSAGES)
        self.connected = False
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
        client.max_inflight_messages_set(INFLIGHT_MESSAGES)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        if settings.tls is not None:
            client.tls_set_context(_tls(settings.tls.authority, settings.tls.certificate, settings.tls.key))
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
        if not self._client.is_connected():
            self._count("not-connected")
            return
        self._client.publish(to, payload, qos=1, retain=retain)

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        if reason.is_failure:
            log.error("broker refused the hub", extra={"reason": str(reason)})
            return
        client.subscribe([(topic("+", channel), 1) for channel in sorted(FROM_DEVICE)])
        self.connected = True
        log.info("connected to the broker", extra={"host": self._settings.host, "port": self._settings.port})
        self._put(Connected())

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
        self._put(Message(name, bytes(message.payload)))

    def _put(self, item: Incoming) -> None:
        try:
            self.incoming.put_nowait(item)
        except queue.Full:
            self._count("overflow")


def _tls(authority: str, certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=authority)
    context.load_cert_chain(certificate, key)
    return context
