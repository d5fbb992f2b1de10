"""Golden vectors: what the model answered where it was made, to be compared where it runs (msgpack)."""

from msgspec import Struct

from agent.protocol.manifest import Datatype


class Tensor(Struct, frozen=True, kw_only=True):
    """A dense tensor; ``data`` is C-ordered, little-endian."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    data: bytes


class GoldenVectors(Struct, frozen=True, kw_only=True):
    """One batch of inputs and, per variant, the outputs expected for it."""

    inputs: tuple[Tensor, ...]
    expected: dict[str, tuple[Tensor, ...]]
    """Variant name → outputs."""
