"""Every channel has its topic, and nothing else is one."""

import pytest

from agent.protocol.errors import UnknownTopicError
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, RETAINED, Channel, parse_topic, topic


@pytest.mark.parametrize("channel", Channel)
def test_a_topic_says_device_and_channel(channel: Channel) -> None:
    text = topic("camera-1", channel)
    assert text == f"edgeward/v1/camera-1/{channel.value}"
    assert parse_topic(text) == ("camera-1", channel)


def test_every_channel_goes_one_way() -> None:
    assert frozenset(Channel) == FROM_DEVICE | FROM_HUB
    assert not FROM_DEVICE & FROM_HUB
    assert frozenset(Channel) > RETAINED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected edgeward/v1/<device>/<channel>"),
        ("edgeward/v1/", "expected edgeward/v1/<device>/<channel>"),
        ("edgeward/v2/camera-1/desired", "expected edgeward/v1/<device>/<channel>"),
        ("other/edgeward/v1/camera-1/desired", "expected edgeward/v1/<device>/<channel>"),
        ("edgeward/v1/Camera/desired", "'Camera' is not a device id"),
        ("edgeward/v1/+/desired", "'+' is not a device id"),
        ("edgeward/v1/camera\n/desired", "is not a device id"),
        ("edgeward/v1/camera-1", "no channel ''"),
        ("edgeward/v1/camera-1/shell", "no channel 'shell'; allowed: desired, reported"),
        ("edgeward/v1/camera-1/telemetry/ack/more", "no channel 'telemetry/ack/more'"),
        ("edgeward/v1/camera-1/desired/", "no channel 'desired/'"),
    ],
)
def test_anything_else_is_refused_by_the_part_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UnknownTopicError) as refusal:
        parse_topic(text)
    assert said in str(refusal.value)
