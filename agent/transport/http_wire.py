"""Supervisor ↔ the child that speaks HTTP: one order, then frames until the end (:mod:`agent.protocol.codec`)."""

from typing import Literal

from msgspec import Struct

PIECE_BYTES = 64 * 1024
"""The longest stretch in one frame."""

FailureKind = Literal["no-answer", "absent", "expired", "busy", "refused"]


class Order(Struct, frozen=True, kw_only=True):
    """Supervisor → child: fetch this, from ``offset`` to the end."""

    url: str
    etag: str | None
    """That the file has there, quotes included; None: not known."""
    offset: int
    size: int
    """Bytes of the whole file, as they were signed."""
    authority: str | None
    """PEM file of one more authority that may have signed the server's certificate."""
    connect_seconds: float
    read_seconds: float
    """Longest silence."""
    now: float
    """Trusted time, Unix seconds: the server's certificate is judged by it."""


class Piece(Struct, frozen=True, tag="piece"):
    """The next bytes."""

    data: bytes


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """The response is over; it may have brought less than was asked for."""

    version: str
    """``HTTP/2`` or ``HTTP/1.1``."""
    received: int
    """Bytes: heads and body. TLS, TCP and HTTP/2's own framing are not in it."""
    sent: int


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """It did not work, or no longer."""

    kind: FailureKind
    text: str
    seconds: float | None = None
    """How long the server asks to be left alone."""
    received: int = 0
    sent: int = 0


FromChild = Piece | Ended | Failed
