"""The stream of a broker is cut into the same packets however it is cut into reads; noise is an error and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hub.ingest import packets
from cloud_hub.ingest.packets import Answer, Publish, Splitter, WireError

LARGEST = 300_000
TOPIC = "edgeward/v1/cam-1/telemetry"


def sent(packet: int, payload: bytes, properties: bytes = b"") -> bytes:
    """A message at QoS 1, as a broker sends it."""
    body = len(TOPIC).to_bytes(2, "big") + TOPIC.encode() + packet.to_bytes(2, "big")
    body += bytes((len(properties),)) + properties + payload
    length, left = bytearray(), len(body)
    while True:
        left, digit = divmod(left, 128)
        length.append(digit | (128 if left else 0))
        if not left:
            return b"\x32" + bytes(length) + body


MESSAGES = st.tuples(st.integers(1, 65_535), st.binary(max_size=400), st.binary(max_size=20))


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(1, 200), max_size=40))
def test_it_does_not_matter_how_the_stream_is_cut(
    messages: list[tuple[int, bytes, bytes]], cuts: list[int]
) -> None:
    stream = b"\x90\x04\x00\x01\x00\x01" + b"".join(sent(*message) for message in messages) + b"\xd0\x00"
    splitter, found, place = Splitter(LARGEST), [], 0
    for cut in [*cuts, len(stream)]:
        found += splitter.feed(stream[place : place + cut])
        place += cut
    assert found == [
        Answer(packets.SUBACK, b"\x00\x01\x00\x01"),
        *(Publish(TOPIC.encode(), payload, packet.to_bytes(2, "big")) for packet, payload, _ in messages),
        Answer(packets.PINGRESP, b""),
    ]


@given(st.binary(max_size=300))
def test_noise_is_refused_or_waited_for(noise: bytes) -> None:
    splitter = Splitter(LARGEST)
    try:
        splitter.feed(noise)
    except WireError:
        return
    assert len(splitter._held) <= len(noise)


def test_a_packet_that_is_too_large_is_refused_before_it_is_here() -> None:
    with pytest.raises(WireError, match="at most 1000"):
        Splitter(1000).feed(sent(1, bytes(2000))[:10])


@pytest.mark.parametrize("stream", [b"\x32\xff\xff\xff\xff\x01", b"\x32\x04\x00\x09ab", b"\x32\x02\x00\x00"])
def test_what_is_no_mqtt_is_refused(stream: bytes) -> None:
    with pytest.raises(WireError):
        Splitter(LARGEST).feed(stream)


def test_what_is_said_is_what_the_standard_says() -> None:
    assert packets.thanks(b"\x12\x34") == b"\x40\x02\x12\x34"
    assert packets.publish("a", b"xy") == b"\x30\x06\x00\x01a\x00xy"
    assert packets.subscribe(1, "t") == b"\x82\x07\x00\x01\x00\x00\x01t\x01"
    hello = packets.connect("me", keepalive=60, receive_maximum=2048, largest=266_240)
    assert hello == b"\x10\x17\x00\x04MQTT\x05\x02\x00\x3c\x08\x21\x08\x00\x27\x00\x04\x10\x00\x00\x02me"
    assert packets.publish("a", bytes(200))[:3] == b"\x30\xcc\x01"
