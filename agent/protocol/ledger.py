"""What a device has spent: bytes over the network by purpose, bytes written to flash by deployment."""

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


class LedgerReport(Struct, frozen=True, kw_only=True):
    """The whole ledger, the newest first."""

    traffic: tuple[Traffic, ...]
    flash: tuple[FlashWrites, ...]
