"""Files from the hub (msgpack): the device asks over MQTT for a range of bytes, or for where HTTP has them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Count, Sha256, UnixTime
from agent.protocol.limits import BLOCK_BYTES

METADATA_NAME_PATTERN = r"^(?:[1-9][0-9]{0,9}\.)?[A-Za-z0-9._~%-]{1,128}\.json$(?!\n)"
"""A role's name is quoted as in a URL, so that none can be a path."""
MetadataName = Annotated[str, Meta(pattern=METADATA_NAME_PATTERN)]
"""``timestamp.json``, ``3.root.json``, ``7.digits.json``, …"""


class MetadataSource(Struct, frozen=True, kw_only=True, tag="metadata"):
    name: MetadataName


class ArtifactSource(Struct, frozen=True, kw_only=True, tag="artifact"):
    sha256: Sha256


RequestId = Annotated[int, Meta(ge=0, le=2**53)]
"""Chosen by the device, comes back in the response."""


class BlockRequest(Struct, frozen=True, kw_only=True, tag="block"):
    """Device → hub: a stretch of a file."""

    v: Literal[1] = 1
    id: RequestId
    source: MetadataSource | ArtifactSource
    offset: Count
    length: Annotated[int, Meta(ge=1, le=BLOCK_BYTES)]


class LocationRequest(Struct, frozen=True, kw_only=True, tag="location"):
    """Device → hub: where an artifact can be fetched over HTTP."""

    v: Literal[1] = 1
    id: RequestId
    sha256: Sha256


TransferRequest = BlockRequest | LocationRequest


class Block(Struct, frozen=True, kw_only=True, tag="block"):
    """The bytes at ``offset``; shorter than asked for only at the end."""

    id: int
    offset: Count
    total: Count
    """Size of the whole file."""
    data: bytes


class Location(Struct, frozen=True, kw_only=True, tag="location"):
    """Where the artifact is over HTTP: whoever has the URL may fetch these bytes until it expires."""

    id: int
    url: Annotated[str, Meta(max_length=4096)]
    """``https://…``, signed; ``http://`` on loopback alone."""
    etag: Annotated[str, Meta(max_length=256)] | None = None
    """That the file has there, quotes included."""
    expires: UnixTime


class TransferProblem(Struct, frozen=True, kw_only=True, tag="problem"):
    id: int
    code: Literal["not-found", "out-of-range", "malformed", "busy", "no-location"]
    """``no-location``: the hub offers no HTTP; blocks over MQTT are the way."""
    text: str


TransferResponse = Block | Location | TransferProblem
