"""Block transfer over MQTT: the device asks for a range, the hub answers with bytes (msgpack)."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Count, Sha256
from agent.protocol.limits import BLOCK_BYTES

MetadataName = Annotated[str, Meta(pattern=r"^(?:[1-9][0-9]{0,9}\.)?[a-z0-9][a-z0-9._-]{0,63}\.json$(?!\n)")]
"""``timestamp.json``, ``3.root.json``, ``7.digits.json``, …"""


class MetadataSource(Struct, frozen=True, kw_only=True, tag="metadata"):
    name: MetadataName


class ArtifactSource(Struct, frozen=True, kw_only=True, tag="artifact"):
    sha256: Sha256


class BlockRequest(Struct, frozen=True, kw_only=True):
    """Device → hub."""

    v: Literal[1] = 1
    id: Annotated[int, Meta(ge=0, le=2**53)]
    """Chosen by the device, comes back in the response."""
    source: MetadataSource | ArtifactSource
    offset: Count
    length: Annotated[int, Meta(ge=1, le=BLOCK_BYTES)]


class Block(Struct, frozen=True, kw_only=True, tag="block"):
    """The bytes at ``offset``; shorter than asked for only at the end."""

    id: int
    offset: Count
    total: Count
    """Size of the whole file."""
    data: bytes


class TransferProblem(Struct, frozen=True, kw_only=True, tag="problem"):
    id: int
    code: Literal["not-found", "out-of-range", "malformed", "busy"]
    text: str


BlockResponse = Block | TransferProblem
