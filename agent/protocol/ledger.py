"""What a device has spent: bytes over the network by purpose, bytes written to flash by deployment."""

from typing import Literal

from msgspec import Struct

from agent.protocol.ids import Count, Name, UnixTime, Version


class Traffic(Struct, frozen=True, kw_only=True):
    """Bytes of one purpose in one month."""

    month: str
    """UTC, for instance ``2026-11``."""
    purpose: Name
    """``artifacts``, ``metadata``, ``telemetry``, …"""
    bytes_in: Count
    """Device ← network."""
    bytes_out: Count


class FlashWrites(Struct, frozen=True, kw_only=True):
    """What the agent wrote to storage while one deployment was under way."""

    deployment: Name
    model: Name
    release: Version
    began: UnixTime
    ended: UnixTime | None
    """None while it is under way, and where a power cut hid its end."""
    written_bytes: Count
    """By the kernel's count of the agent's process (``write_bytes`` of ``/proc/self/io``): artifacts, databases, journals,
    also of another deployment that went on at the same time. What a file system on a RAM disk takes is not in it."""


Thinning = Literal["none", "quarter-days", "days", "urgent-only", "nothing"]
"""What is done so that telemetry's bytes last the month (:mod:`agent.core.sending`).

``quarter-days``, ``days``: waiting windows are merged over so much time, health records over hours. ``urgent-only``: nothing
but warnings, drift and errors is sent. ``nothing``: nothing at all, as the device's owner asks.
"""


class BudgetReport(Struct, frozen=True, kw_only=True):
    """How telemetry's monthly budget stands; only where the device's owner has set one."""

    month: str
    """UTC, for instance ``2026-11``."""
    monthly_bytes: Count
    used_bytes: Count
    """Sent and received for telemetry, with MQTT's topics and heads, without TLS and TCP."""
    left_bytes: Count
    thinning: Thinning


class LedgerReport(Struct, frozen=True, kw_only=True):
    """The whole ledger, the newest first."""

    traffic: tuple[Traffic, ...]
    flash: tuple[FlashWrites, ...]
    budget: BudgetReport | None = None
    """Of telemetry."""
