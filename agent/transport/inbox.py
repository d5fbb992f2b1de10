"""Messages from the hub: decoded, counted where they are wrong, handed to whoever takes their kind."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from agent.protocol.codec import decode_json, decode_msgpack
from agent.protocol.envelope import Envelope
from agent.protocol.errors import (
    MalformedMessageError,
    MessageTooLargeError,
    ProtocolError,
    UnknownTopicError,
)
from agent.protocol.labels import LabelDelivery
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.samples import MAX_SAMPLE_ENVELOPE_BYTES
from agent.protocol.state import Command, DesiredState
from agent.protocol.telemetry import TelemetryAck
from agent.protocol.topics import Channel, parse_topic
from agent.protocol.transfer import Block, Location, TransferProblem, TransferResponse

log = logging.getLogger(__name__)

Incoming = (
    DesiredState | TelemetryAck | Command | Block | Location | TransferProblem | Envelope | LabelDelivery
)
T = TypeVar(
    "T", DesiredState, TelemetryAck, Command, Block, Location, TransferProblem, Envelope, LabelDelivery
)

_TEXT_SHOWN = 300

_JSON: dict[Channel, tuple[type[Incoming], int]] = {
    Channel.DESIRED: (DesiredState, MAX_MESSAGE_BYTES),
    Channel.TELEMETRY_ACK: (TelemetryAck, MAX_MESSAGE_BYTES),
    Channel.COMMAND: (Command, MAX_MESSAGE_BYTES),
    Channel.SAMPLES: (Envelope, MAX_SAMPLE_ENVELOPE_BYTES),
    Channel.LABELS: (LabelDelivery, MAX_MESSAGE_BYTES),
}
"""Channel → what comes on it, and its bytes at most."""


class Inbox:
    """Turns (topic, payload) into a typed message and calls its handler; never raises.

    Args:
        device: this device's id; another device's topic is refused.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._handlers: dict[type[Incoming], Callable[[Incoming], None]] = {}
        self.errors: Counter[str] = Counter()
        """What was refused or failed, by kind: ``unknown-topic``, ``foreign-topic``, ``oversized-message``,
        ``malformed-message``, ``unhandled-message``, ``handler-failed``; the link and the transfer add their own."""

    def on(self, kind: type[T], handler: Callable[[T], None]) -> None:
        """Let ``handler`` take every message of ``kind``. It takes it at once: it must not block or wait."""

        def take(message: Incoming) -> None:
            if isinstance(message, kind):
                handler(message)

        self._handlers[kind] = take

    def take(self, topic: str, payload: bytes) -> None:
        """Decode and hand on; what is wrong is counted and logged, and is over with."""
        try:
            message = self._decode(topic, payload)
        except ProtocolError as error:
            self.count(_name(error), topic=topic, text=str(error))
            return
        if message is None:
            self.count("foreign-topic", topic=topic, text=f"this device is {self._device}")
            return
        handler = self._handlers.get(type(message))
        if handler is None:
            self.count("unhandled-message", topic=topic, text=type(message).__name__)
            return
        try:
            handler(message)
        except Exception:  # a handler's fault must not stop the messages after it
            self.errors["handler-failed"] += 1
            log.exception("a message's handler failed", extra={"topic": topic})

    def count(self, kind: str, *, topic: str = "", text: str = "") -> None:
        """Count one thing that was refused or failed, and log it."""
        self.errors[kind] += 1
        log.warning("%s", kind, extra={"topic": topic, "text": text[:_TEXT_SHOWN]})

    def _decode(self, topic: str, payload: bytes) -> Incoming | None:
        device, channel = parse_topic(topic)
        if device != self._device:
            return None
        if channel is Channel.RESPONSE:
            response: TransferResponse = decode_msgpack(payload, TransferResponse)
            return response
        if channel not in _JSON:
            raise UnknownTopicError(f"topic {topic!r}: a device does not take {channel}")
        kind, limit = _JSON[channel]
        message: Incoming = decode_json(payload, kind, limit=limit)
        return message


def _name(error: ProtocolError) -> str:
    match error:
        case MessageTooLargeError():
            return "oversized-message"
        case MalformedMessageError():
            return "malformed-message"
        case _:
            return "unknown-topic"
