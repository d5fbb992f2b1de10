"""Supervisor ↔ front: the control channel of the process that serves a device's one address."""

from msgspec import Struct

from agent.protocol.access import TlsFiles


class FrontStart(Struct, frozen=True, kw_only=True, tag="front-start"):
    """First frame."""

    listening_fd: int
    """The device's listening TCP socket."""
    models: dict[str, str]
    """Model → path of its Unix socket."""
    maximum_body_bytes: int
    tls: TlsFiles | None = None
    hosts: tuple[str, ...] = ()
    """Names that clients may call it by, beside its own address and the loopback names."""


class FrontModels(Struct, frozen=True, kw_only=True, tag="front-models"):
    """The models from now on."""

    models: dict[str, str]


ToFront = FrontStart | FrontModels


class FrontReady(Struct, frozen=True, kw_only=True, tag="front-ready"):
    """It accepts connections."""


class FrontFailed(Struct, frozen=True, kw_only=True, tag="front-failed"):
    """It can't serve, and ends."""

    text: str


FromFront = FrontReady | FrontFailed
