"""paho's client against a broker that breaks MQTT: what can't be read or was never asked for ends the connection, not the thread.

paho 2.2 itself takes 268 MB where 260 KB were agreed, keeps every message of QoS 2 until it is released, and ends its thread
over some packets, after which the link neither works nor says so. These are private methods, so the version is pinned; the
attacks of ``tests/fault/attacks/test_broker.py`` fail where one of them is no longer called.
"""

import logging

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode

log = logging.getLogger(__name__)

_QOS_BITS = 0x06
_AT_MOST_QOS_1 = 0x02


class GuardedClient(Client):
    """A client that takes packets up to :attr:`largest_packet` bytes, of QoS 1 at most."""

    largest_packet = 0
    """Bytes after the fixed header; what the CONNECT packet says is allowed."""

    def _packet_read(self) -> MQTTErrorCode:
        try:
            return super()._packet_read()
        except Exception as error:  # noqa: BLE001 - whatever bytes do to a parser or to a callback
            log.warning("the broker sent what can't be read", extra={"why": repr(error)})
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._in_packet["to_process"] > self.largest_packet:
            raise ConnectionError(f"a packet of {self._in_packet['remaining_length']} bytes was announced")
        return super()._sock_recv(bufsize)

    def _handle_publish(self) -> MQTTErrorCode:
        if self._in_packet["command"] & _QOS_BITS > _AT_MOST_QOS_1:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()
