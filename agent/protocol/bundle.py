"""A bundle (``<name>.edgeward``): metadata, orders and artifacts in one signed file, for devices without a network.

::

    "edgeward-bundle/1" LF   18 bytes
    length of the envelope   4 bytes, big-endian
    envelope                 JSON: the signed index (:class:`BundleIndex`)
    files                    one after the other, as the index lists them, without a gap; then the file ends

A file's place follows from the sizes before it, so nothing can overlap; a name is looked up and never becomes a path.
The index is signed by the director's key. It says what is in the file and for whom; what a device may install is
decided by the same metadata and the same checks as online.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.codec import decode_json
from agent.protocol.envelope import BUNDLE_TYPE, open_envelope
from agent.protocol.errors import MalformedMessageError, NewerSchemaError
from agent.protocol.ids import Name, Sha256, UnixTime, Version

MAGIC = b"edgeward-bundle/1\n"
MAGIC_FAMILY = b"edgeward-bundle/"
LENGTH_BYTES = 4
PREFIX_BYTES = len(MAGIC) + LENGTH_BYTES
MAX_ENVELOPE_BYTES = 3 * 1024 * 1024
"""A signed index."""
MAX_INDEX_BYTES = 2 * 1024 * 1024
MAX_DEVICES = 256
MAX_FILES = 4096
FILE_SUFFIX = ".edgeward"

_COPY_AGAIN = "copy the whole bundle again"


class BundleOrder(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one device is to run."""

    model: Name
    release: Version
    deployment: Name


class BundleDevice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    device: Name
    hardware_class: Name
    """As the hub knows it: it decides which variants are in the bundle."""
    orders: tuple[BundleOrder, ...]


class BundleFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["metadata", "director", "artifact"]
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    """``3.root.json``, … (metadata); a device id (director); ``models/<model>/<release>/<file>`` (artifact)."""
    sha256: Sha256
    size: Annotated[int, Meta(ge=1, le=2**40)]


class BundleIndex(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is in the file."""

    v: Literal[1] = 1
    hub: Name
    created: UnixTime
    expires: UnixTime
    """The first expiry of everything in it: from then on no device takes it."""
    created_by: Annotated[str, Meta(max_length=128)]
    devices: Annotated[tuple[BundleDevice, ...], Meta(min_length=1, max_length=MAX_DEVICES)]
    files: Annotated[tuple[BundleFile, ...], Meta(min_length=1, max_length=MAX_FILES)]

    @property
    def file_bytes(self) -> int:
        return sum(file.size for file in self.files)

    def device(self, name: str) -> BundleDevice | None:
        """What is in it for one device."""
        return next((each for each in self.devices if each.device == name), None)

    def places(self, start: int) -> Iterator[tuple[BundleFile, int]]:
        """Each file with its offset in the bundle; ``start`` is where the first one begins."""
        for file in self.files:
            yield file, start
            start += file.size


def read_prefix(data: bytes) -> int:
    """How many bytes the envelope has, from the first :data:`PREFIX_BYTES` bytes of a file (fewer where it ends before).

    Raises:
        NewerSchemaError: a bundle of a form that this program does not know.
        MalformedMessageError: not a bundle, cut off, or with an oversized index.
    """
    if data and len(data) < PREFIX_BYTES and (MAGIC.startswith(data) or data.startswith(MAGIC)):
        raise MalformedMessageError(f"it ends after {len(data)} bytes; {_COPY_AGAIN}")
    if not data.startswith(MAGIC):
        if data.startswith(MAGIC_FAMILY):
            raise NewerSchemaError(
                "this bundle was made by a newer Edgeward; update Edgeward on this device first"
            )
        raise MalformedMessageError("this is not an Edgeward bundle")
    length = int.from_bytes(data[len(MAGIC) : PREFIX_BYTES], "big")
    if not 1 <= length <= MAX_ENVELOPE_BYTES:
        raise MalformedMessageError(
            f"its index is said to have {length} bytes, 1-{MAX_ENVELOPE_BYTES} are allowed"
        )
    return length


def read_index(envelope: bytes) -> BundleIndex:
    """The index in an envelope. Nothing in it is proven yet: that takes the signature.

    Raises:
        MessageTooLargeError: over the limit.
        MalformedMessageError: it breaks a rule; the text names the field.
    """
    payload = open_envelope(envelope, BUNDLE_TYPE, limit=MAX_ENVELOPE_BYTES).payload
    index = decode_json(payload, BundleIndex, limit=MAX_INDEX_BYTES)
    _unique([each.device for each in index.devices], "devices")
    _unique([f"{file.kind} {file.name}" for file in index.files], "files")
    return index


@dataclass(frozen=True, kw_only=True)
class OpenedBundle:
    """A bundle whose outer form holds: its index can be read, and the file has the size that follows from it."""

    index: BundleIndex
    envelope: bytes
    places: dict[tuple[str, str], tuple[BundleFile, int]]
    """(kind, name) → the file and its offset."""

    @property
    def digest(self) -> str:
        """SHA-256 of the signed index, which names every other byte by its hash: what receipts call the bundle."""
        payload = open_envelope(self.envelope, BUNDLE_TYPE, limit=MAX_ENVELOPE_BYTES).payload
        return sha256(payload).hexdigest()


def open_bundle(read: Callable[[int, int], bytes], size: int) -> OpenedBundle:
    """Read a bundle's index and compare the file's size with it.

    Args:
        read: (offset, length) → the bytes there, fewer at the end of the file.
        size: bytes of the whole file.

    Raises:
        ProtocolError: not a bundle, of a newer form, cut off, too long, or with an index that breaks a rule.
    """
    length = read_prefix(read(0, PREFIX_BYTES))
    envelope = read(PREFIX_BYTES, length)
    if len(envelope) < length:
        raise MalformedMessageError(f"it ends after {size:,} bytes, inside its index; {_COPY_AGAIN}")
    index = read_index(envelope)
    start = PREFIX_BYTES + length
    wanted = start + index.file_bytes
    if size < wanted:
        raise MalformedMessageError(f"it ends after {size:,} of {wanted:,} bytes; {_COPY_AGAIN}")
    if size > wanted:
        raise MalformedMessageError(f"it has {size:,} bytes, {size - wanted:,} more than its index says")
    places: dict[tuple[str, str], tuple[BundleFile, int]] = {
        (file.kind, file.name): (file, offset) for file, offset in index.places(start)
    }
    return OpenedBundle(index=index, envelope=envelope, places=places)


def _unique(names: list[str], what: str) -> None:
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise MalformedMessageError(f"BundleIndex: {what} stand in it twice: {', '.join(twice)[:200]}")
