"""Enrolment over HTTP: a single-use token and a CSR against an identity and the trusted root."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Name

TOKEN_PATTERN = r"^ew1\.[A-Za-z0-9_-]{22,64}\.[0-9a-f]{64}$(?!\n)"  # noqa: S105 - a pattern, not a secret
"""``ew1.<secret>.<SHA-256 of the trusted root.json>``: the digest lets a device check the root it is handed."""


class EnrolmentRequest(Struct, frozen=True, kw_only=True):
    """``POST /v1/enrol``."""

    token: Annotated[str, Meta(pattern=TOKEN_PATTERN)]
    device: Name
    hardware_class: Name
    csr: Annotated[str, Meta(max_length=8192)]
    """PEM; its common name is the device id. The private key never leaves the device."""


class BrokerAddress(Struct, frozen=True, kw_only=True):
    host: str
    port: Annotated[int, Meta(ge=1, le=65535)]
    tls: bool


class EnrolmentResponse(Struct, frozen=True, kw_only=True):
    v: Literal[1] = 1
    device: Name
    certificate: str
    """PEM client certificate for the broker."""
    authority: str
    """PEM of the authority that signed it and the broker's certificate."""
    broker: BrokerAddress
    root: str
    """Text of the trusted ``root.json``; its SHA-256 must be the one in the token."""
    minimum_versions: dict[str, int]
    """Metadata role → the version it has now: a fresh device takes nothing older."""
