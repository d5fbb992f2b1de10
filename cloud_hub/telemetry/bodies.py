"""Bodies of records as they are stored: msgpack, encoded by the hub itself, each once."""

from typing import Any

import msgspec

from agent.protocol.drift import DriftWindow
from agent.protocol.telemetry import Body

encode_body = msgspec.msgpack.Encoder().encode
"""A :data:`~agent.protocol.telemetry.Body`, or a :class:`~agent.protocol.drift.DriftWindow`, as bytes."""

_read_body: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Body)
_read_window = msgspec.msgpack.Decoder(DriftWindow)


def decode_body(stored: bytes) -> Body:
    """What :attr:`TelemetryRecord.body` holds; of every kind but windows."""
    body: Body = _read_body.decode(stored)
    return body


def decode_window(stored: bytes) -> DriftWindow:
    """What :attr:`DriftWindowRow.window` holds."""
    return _read_window.decode(stored)
