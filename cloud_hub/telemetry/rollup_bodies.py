"""What the roll-ups' rows hold beside their columns: msgpack."""

import msgspec
from msgspec import Struct

from agent.protocol.drift import AccuracyEstimate, Alarm, SignalCounts, Verdict
from cloud_hub.telemetry.views import FleetEstimate, FleetVerdict


class NewestBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    signals: dict[str, SignalCounts]
    verdict: Verdict | None = None
    """The hub's."""
    alarm: Alarm | None = None
    estimate: AccuracyEstimate | None = None
    estimate_off: str | None = None
    problem: str | None = None
    """Why the counts can't be judged."""
    altered: bool = False
    """Counts are not as they were counted, for privacy."""


class CountsBody(Struct, frozen=True, kw_only=True):
    signals: dict[str, SignalCounts]


class FleetDayBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    verdict: FleetVerdict | None = None
    robust: dict[str, SignalCounts] = {}
    raw: dict[str, SignalCounts] = {}
    estimate: FleetEstimate | None = None
    levels: dict[str, int] = {}
    """Devices by the hub's verdict on their day."""
    problem: str | None = None


encode = msgspec.msgpack.encode
decode_newest = msgspec.msgpack.Decoder(NewestBody).decode
decode_counts = msgspec.msgpack.Decoder(CountsBody).decode
decode_fleet_day = msgspec.msgpack.Decoder(FleetDayBody).decode
