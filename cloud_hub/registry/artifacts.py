"""Content-addressed bytes in an object store (obstore; a folder by default)."""

import hashlib
from datetime import timedelta
from pathlib import Path

import obstore
from msgspec import Struct
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store, from_url

from agent.protocol.ids import Digest

SIGNING_STORES = (S3Store, GCSStore, AzureStore)


class StoredArtifact(Struct, frozen=True, kw_only=True):
    sha256: Digest
    size: int


class Stored(Struct, frozen=True, kw_only=True):
    """What the store says of an object."""

    size: int
    etag: str | None
    """The store's own."""


class ArtifactStore:
    """Objects named by the SHA-256 of their bytes.

    Reading does not check the hash again: devices and approvers check everything they get themselves.

    Args:
        place: a folder, or the URL of an object store: ``s3://bucket/path``, ``gs://…``, ``az://…`` (credentials by the
            environment, as its own tools find them).
    """

    def __init__(self, place: Path | str) -> None:
        if isinstance(place, Path):
            place.mkdir(parents=True, exist_ok=True)
            self._store: LocalStore | S3Store | GCSStore | AzureStore = LocalStore(prefix=place)
        else:
            store = from_url(place)
            if not isinstance(store, SIGNING_STORES):
                raise TypeError(f"{place}: expected a folder, s3://, gs:// or az://")
            self._store = store

    def put(self, data: bytes) -> StoredArtifact:
        """Store bytes and say what they are."""
        digest = Digest(hashlib.sha256(data).hexdigest())
        obstore.put(self._store, digest, data)
        return StoredArtifact(sha256=digest, size=len(data))

    def look(self, digest: str) -> Stored | None:
        """What is there under this digest, None if there is nothing."""
        try:
            meta = obstore.head(self._store, digest)
        except FileNotFoundError:
            return None
        return Stored(size=meta["size"], etag=meta["e_tag"])

    def size(self, digest: str) -> int | None:
        """Bytes of an object, None if there is none."""
        stored = self.look(digest)
        return None if stored is None else stored.size

    def read(self, digest: str) -> bytes | None:
        """All bytes of an object, None if there is none."""
        try:
            return bytes(obstore.get(self._store, digest).bytes())
        except FileNotFoundError:
            return None

    def read_range(self, digest: str, offset: int, length: int) -> bytes:
        """Bytes from ``offset`` on; the caller keeps the range inside the object."""
        return bytes(obstore.get_range(self._store, digest, start=offset, length=length))

    async def read_piece(self, digest: str, offset: int, length: int) -> bytes:
        """As :meth:`read_range`, on an event loop."""
        return bytes(await obstore.get_range_async(self._store, digest, start=offset, length=length))

    @property
    def can_sign(self) -> bool:
        """Whether the store itself hands objects out, to whoever has a URL that it has signed."""
        return isinstance(self._store, SIGNING_STORES)

    def sign(self, digest: str, lifetime: timedelta) -> str:
        """A URL with which anybody may get the object for so long, from the store itself.

        Raises:
            TypeError: it can't; see :attr:`can_sign`.
        """
        if not isinstance(self._store, SIGNING_STORES):
            raise TypeError("a folder signs nothing")
        return obstore.sign(self._store, "GET", digest, lifetime)
