"""The part of MQTT 5 that a process needs which takes telemetry: bytes in, packets out, no I/O.

Numbers and names are those of the standard (OASIS MQTT 5.0, chapters 2 and 3).
"""

import struct
from collections.abc import Iterator

from msgspec import Struct

from cloud_hub.errors import HubError

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = (
    1,
    2,
    3,
    4,
    8,
    9,
    12,
    13,
    14,
)
FAILURE = 0x80
"""Reason codes from here on are refusals."""

_RECEIVE_MAXIMUM, _MAXIMUM_PACKET_SIZE = 0x21, 0x27
_CLEAN_START = 0x02
_MORE = 0x80
_LENGTH_BYTES = 4
_SHORTEST = 2


class WireError(HubError):
    title = "The broker says something that is no MQTT"


class Publish(Struct, frozen=True):
    """A message of the broker."""

    topic: bytes
    payload: bytes
    packet: bytes
    """Its identifier, two bytes; empty: QoS 0, nobody wants thanks."""


class Answer(Struct, frozen=True):
    """Any other packet."""

    kind: int
    body: bytes


class Splitter:
    """Cuts a byte stream into packets; holds at most one that is unfinished."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._held = bytearray()

    def feed(self, data: bytes) -> list[Publish | Answer]:
        """Take ``data``; every packet that is complete now.

        Raises:
            WireError: it is no MQTT, or a packet is larger than the broker was told.
        """
        self._held += data
        packets: list[Publish | Answer] = []
        done = 0
        for first, start, end in self._complete():
            packets.append(
                _publish(first, bytes(self._held[start:end]))
                if first >> 4 == PUBLISH
                else Answer(first >> 4, bytes(self._held[start:end]))
            )
            done = end
        del self._held[:done]
        return packets

    def _complete(self) -> Iterator[tuple[int, int, int]]:
        """First byte, start and end of the body of each packet."""
        held, known, place = self._held, len(self._held), 0
        while place + _SHORTEST <= known:
            size, start = _number(held, place + 1)
            if start == 0:
                return
            if size > self._largest:
                raise WireError(f"a packet of {size} bytes, at most {self._largest} were allowed")
            end = start + size
            if end > known:
                return
            yield held[place], start, end
            place = end


def _number(data: bytes | bytearray, place: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; 0 as its end: it is not complete."""
    value = shift = 0
    for place_now in range(place, min(place + _LENGTH_BYTES, len(data))):
        byte = data[place_now]
        value |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return value, place_now + 1
        shift += 7
    if len(data) >= place + _LENGTH_BYTES:
        raise WireError("a length of more than four bytes")
    return 0, 0


def _publish(first: int, body: bytes) -> Publish:
    after_topic = _SHORTEST + int.from_bytes(body[:2], "big")
    properties = after_topic + (2 if first & 0x06 else 0)
    size, start = _number(body, properties)
    if start == 0 or start + size > len(body):
        raise WireError("a message that ends before its payload")
    return Publish(body[2:after_topic], body[start + size :], body[after_topic:properties])


def connect(client_id: str, *, keepalive: int, receive_maximum: int, largest: int) -> bytes:
    """A clean start as ``client_id``.

    Args:
        client_id: of this process, and of no other.
        keepalive: seconds.
        receive_maximum: messages that the broker may send before it is thanked for the first of them.
        largest: bytes of a packet that the broker may send.
    """
    properties = struct.pack(">BHBI", _RECEIVE_MAXIMUM, receive_maximum, _MAXIMUM_PACKET_SIZE, largest)
    header = _text("MQTT") + struct.pack(">BBHB", 5, _CLEAN_START, keepalive, len(properties))
    return _packet(CONNECT << 4, header + properties + _text(client_id))


def subscribe(packet: int, name: str) -> bytes:
    """At QoS 1."""
    return _packet(SUBSCRIBE << 4 | 2, struct.pack(">HB", packet, 0) + _text(name) + b"\x01")


def publish(name: str, payload: bytes) -> bytes:
    """At QoS 0."""
    return _packet(PUBLISH << 4, _text(name) + b"\x00" + payload)


def thanks(packet: bytes) -> bytes:
    """For a message at QoS 1, by its identifier."""
    return b"\x40\x02" + packet


def reason(answer: Answer) -> int:
    """Of a CONNACK, a SUBACK to one subscription, or a DISCONNECT (which without one is a normal end)."""
    place = {CONNACK: 1, SUBACK: len(answer.body) - 1, DISCONNECT: 0}[answer.kind]
    return answer.body[place] if answer.body else 0


PING = bytes((PINGREQ << 4, 0))
GOODBYE = bytes((DISCONNECT << 4, 0))


def _packet(first: int, body: bytes) -> bytes:
    left, length = len(body), bytearray()
    while True:
        left, digit = divmod(left, _MORE)
        length.append(digit | (_MORE if left else 0))
        if not left:
            return bytes((first,)) + length + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">H", len(encoded)) + encoded
