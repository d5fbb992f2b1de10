"""Children to compare with: ``python -m hw_bench.ingest.subscribers paho|raw|acks PORT COUNT``.

``paho`` counts the same messages at QoS 1 with the library that the hub uses. ``raw`` speaks just enough MQTT 5 on a socket to
count them and thank for them, many in one write: what is left is the broker's own speed. ``acks`` counts what the hub
acknowledges. Each says ``ready``, and at the end its seconds and its processor time between the first tenth and the last.
"""

import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.telemetry import TelemetryAck
from agent.protocol.topics import Channel, topic

SHARED = "$share/edgeward-ingest/" + topic("+", Channel.TELEMETRY)
_PUBLISH = 3
_CONTINUED = 0x80


class Counted(Struct, frozen=True, kw_only=True):
    messages: int
    seconds: float
    processor_seconds: float


class Count:
    """Time between the first tenth and the last message."""

    def __init__(self, wanted: int) -> None:
        self._wanted, self._from, self._seen = wanted, wanted // 10, 0
        self._started = (0.0, 0.0)
        self._ended = threading.Event()
        self.result: Counted | None = None

    def add(self, messages: int = 1) -> None:
        before, self._seen = self._seen, self._seen + messages
        if before < self._from <= self._seen:
            self._from = self._seen
            self._started = (time.monotonic(), time.process_time())
        if before < self._wanted <= self._seen:
            self.result = Counted(
                messages=self._seen - self._from,
                seconds=time.monotonic() - self._started[0],
                processor_seconds=time.process_time() - self._started[1],
            )
            self._ended.set()

    def wait(self) -> None:
        self._ended.wait()


def count_with_paho(port: int, name: str, count: Count, worth: Callable[[bytes], int]) -> None:
    """Return when ``count`` is full; ``worth`` of a payload is what it adds."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_message = lambda _client, _data, message: count.add(worth(bytes(message.payload)))
    client.on_connect = lambda connected, *_: connected.subscribe(name, 1)
    client.on_subscribe = lambda *_: print("ready", flush=True)  # noqa: T201 - a child speaks to its parent
    client.connect("127.0.0.1", port)
    client.loop_start()
    count.wait()
    client.disconnect()
    client.loop_stop()


def count_raw(port: int, count: Count) -> None:
    """Return when ``count`` is full."""
    with socket.create_connection(("127.0.0.1", port)) as broker:
        broker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x03raw"
        broker.sendall(bytes([0x10, len(hello)]) + hello)
        broker.recv(1024)
        wish = b"\x00\x01\x00" + struct.pack(">H", len(SHARED)) + SHARED.encode() + b"\x01"
        broker.sendall(bytes([0x82, len(wish)]) + wish)
        broker.recv(1024)
        print("ready", flush=True)  # noqa: T201
        held = bytearray()
        while count.result is None:
            held += broker.recv(262_144)
            thanks = []
            packets = list(_packets(held))
            for start, begin, _end in packets:
                if held[start] >> 4 == _PUBLISH:
                    place = begin + 2 + (held[begin] << 8 | held[begin + 1])
                    thanks.append(b"\x40\x02" + held[place : place + 2])
            del held[: packets[-1][2] if packets else 0]
            if thanks:
                broker.sendall(b"".join(thanks))
                count.add(len(thanks))


def _packets(held: bytearray) -> Iterator[tuple[int, int, int]]:
    """First byte, first byte after the header, and end of every packet that is complete."""
    start, known = 0, len(held)
    while start + 2 <= known:
        size, shift, place = 0, 0, start + 1
        while place < known:
            size |= (held[place] & (_CONTINUED - 1)) << shift
            shift += 7
            place += 1
            if held[place - 1] < _CONTINUED:
                break
        else:
            return
        if place + size > known:
            return
        yield start, place, place + size
        start = place + size


def main() -> None:
    """Run one of them."""
    kind, port, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    count = Count(wanted)
    if kind == "raw":
        count_raw(port, count)
    elif kind == "paho":
        count_with_paho(port, SHARED, count, lambda _payload: 1)
    else:
        read = msgspec.json.Decoder(TelemetryAck).decode
        count_with_paho(
            port, topic("+", Channel.TELEMETRY_ACK), count, lambda payload: len(read(payload).sequences)
        )
    print(msgspec.json.encode(count.result).decode(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
