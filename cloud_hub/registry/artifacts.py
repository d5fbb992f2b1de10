"""Content-addressed bytes in an object store (obstore; a folder by default)."""

import hashlib
from pathlib import Path

import obstore
from msgspec import Struct
from obstore.store import LocalStore

from agent.protocol.ids import Digest


class StoredArtifact(Struct, frozen=True, kw_only=True):
    sha256: Digest
    size: int


class ArtifactStore:
    """Objects named by the SHA-256 of their bytes.

    Reading does not check the hash again: devices and approvers check everything they get themselves.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._store = LocalStore(prefix=folder)

    def put(self, data: bytes) -> StoredArtifact:
        """Store bytes and say what they are."""
        digest = Digest(hashlib.sha256(data).hexdigest())
        obstore.put(self._store, digest, data)
        return StoredArtifact(sha256=digest, size=len(data))

    def size(self, digest: str) -> int | None:
        """Bytes of an object, None if there is none."""
        try:
            return obstore.head(self._store, digest)["size"]
        except FileNotFoundError:
            return None

    def read(self, digest: str) -> bytes | None:
        """All bytes of an object, None if there is none."""
        try:
            return bytes(obstore.get(self._store, digest).bytes())
        except FileNotFoundError:
            return None

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Bytes from ``offset`` on; the caller keeps the range inside the object."""
        return bytes(obstore.get_range(self._store, digest, start=offset, length=length))
