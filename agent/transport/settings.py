"""Where the broker is, and how the link behaves."""

from pathlib import Path

from msgspec import Struct

from agent.transport.backoff import Backoff


class TlsFiles(Struct, frozen=True, kw_only=True):
    """PEM files of the device's identity and of the authority it trusts."""

    certificate: Path
    key: Path
    authority: Path


class LinkSettings(Struct, frozen=True, kw_only=True):
    """Where the broker is, and how the link behaves; times in seconds."""

    host: str
    port: int
    tls: TlsFiles | None = None
    """None: plain TCP, for a broker on loopback."""
    keepalive: int = 30
    session_expiry: int = 3_600
    """How long the broker keeps messages for a device that is away; a convenience, nothing relies on it."""
    receive_maximum: int = 16
    """Messages the broker may send before one is acknowledged."""
    queue: int = 64
    """Messages from paho's thread that may wait for the event loop."""
    queue_seconds: float = 5.0
    """How long paho's thread waits for room in it before it gives the connection up."""
    connect_seconds: float = 30.0
    """TCP, TLS, MQTT and the subscriptions take five round trips; more where packets are lost."""
    publish_seconds: float = 30.0
    parallel_publishes: int = 16
    backoff: Backoff = Backoff(minimum=0.5, maximum=60.0)
