"""MQTT topics: ``edgeward/v1/<device>/<channel>``."""

from enum import StrEnum

from agent.protocol.errors import UnknownTopicError
from agent.protocol.ids import DeviceId, is_name

PREFIX = "edgeward/v1"


class Channel(StrEnum):
    """What a topic carries. Retained: ``DESIRED``, ``REPORTED``, ``PRESENCE``."""

    DESIRED = "desired"
    REPORTED = "reported"
    PRESENCE = "presence"
    TELEMETRY = "telemetry"
    TELEMETRY_ACK = "telemetry/ack"
    REQUEST = "request"
    RESPONSE = "response"
    COMMAND = "command"
    SAMPLES = "samples"
    LABELS = "labels"
    LABELS_ACK = "labels/ack"


FROM_DEVICE = frozenset(
    {Channel.REPORTED, Channel.PRESENCE, Channel.TELEMETRY, Channel.REQUEST, Channel.LABELS_ACK}
)
FROM_HUB = frozenset(
    {
        Channel.DESIRED,
        Channel.TELEMETRY_ACK,
        Channel.RESPONSE,
        Channel.COMMAND,
        Channel.SAMPLES,
        Channel.LABELS,
    }
)
RETAINED = frozenset({Channel.DESIRED, Channel.REPORTED, Channel.PRESENCE})


def topic(device: DeviceId | str, channel: Channel) -> str:
    """The topic of one channel of one device (``+`` as device: the hub's subscription)."""
    return f"{PREFIX}/{device}/{channel}"


def parse_topic(text: str) -> tuple[DeviceId, Channel]:
    """Split a topic.

    Raises:
        UnknownTopicError: not a topic of this protocol; the text names the part that is wrong.
    """
    head, _, rest = text.partition(f"{PREFIX}/")
    if head or not rest:
        raise UnknownTopicError(f"topic {text!r}: expected {PREFIX}/<device>/<channel>")
    device, _, channel = rest.partition("/")
    if not is_name(device):
        raise UnknownTopicError(f"topic {text!r}: {device!r} is not a device id")
    try:
        return DeviceId(device), Channel(channel)
    except ValueError:
        allowed = ", ".join(Channel)
        raise UnknownTopicError(f"topic {text!r}: no channel {channel!r}; allowed: {allowed}") from None
