"""An open bundle: its metadata for the verifier, its artifacts for the downloader. Only read, by offset, never extracted.

It may lie on a stick that is pulled at any moment: what can't be read any more is said once (:attr:`BundleSource.lost`), and
no error of it is anyone else's fault. Reading happens in threads, because a stick may take its time.
"""

import asyncio
import os
import stat
import threading
from hashlib import sha256
from typing import Self

from agent.protocol.bundle import BundleFile, OpenedBundle, open_bundle
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import Digest
from agent.protocol.limits import MAX_DIRECTOR_BYTES, MAX_METADATA_BYTES
from agent.protocol.state import Way
from agent.protocol.verification import FetchedMetadata
from agent.transport.errors import BundleError, NoAnswerError, NotFoundError, TransferError
from agent.transport.sources import ByteWriter

CHUNK_BYTES = 256 * 1024
DAMAGED, GONE, NOT_ONE = "damaged-bundle", "bundle-gone", "not-a-bundle"


class BundleSource:
    """One bundle, as long as it is there (:class:`agent.transport.sources.ByteSource`)."""

    way: Way = "bundle"

    def __init__(self, descriptor: int, opened: OpenedBundle) -> None:
        """Takes over the descriptor. Use :meth:`open`."""
        self._descriptor = descriptor
        self._closed = False
        self._reading = (
            threading.Lock()
        )  # a descriptor must not be closed, and its number used again, under a reader
        self._by_digest = {file.sha256: (file, offset) for file, offset in opened.places.values()}
        self.opened = opened
        self.lost = asyncio.Event()
        """It can't be read any more: the stick was pulled."""

    @classmethod
    async def open(cls, descriptor: int) -> Self:
        """Take over an open file that someone has handed in.

        Raises:
            BundleError: no regular file, no bundle, or not a whole one; the descriptor is closed.
        """
        try:
            return cls(descriptor, await asyncio.to_thread(_open, descriptor))
        except BaseException:
            os.close(descriptor)
            raise

    async def metadata(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        """One metadata file, as the verifier asks for it."""
        return await self._whole("metadata", name, min(maximum_bytes, MAX_METADATA_BYTES))

    async def document(self, device: str) -> bytes | None:
        """The director's document for a device; None where there is none.

        Raises:
            BundleError: it can't be read, or is too large for one.
        """
        fetched = await self._whole("director", device, MAX_DIRECTOR_BYTES)
        if fetched.error is not None:
            raise BundleError(DAMAGED, fetched.error)
        return fetched.data

    def find(self, digest: str) -> BundleFile | None:
        """The file that is said to have this digest."""
        place = self._by_digest.get(digest)
        return None if place is None else place[0]

    async def check(self, digest: str) -> None:
        """Read a file from its beginning to its end.

        Raises:
            BundleError: its bytes are other ones, or it can't be read any more.
        """
        file, start = self._by_digest[digest]
        hasher = sha256()
        for offset in range(start, start + file.size, CHUNK_BYTES):
            data = await self._read(offset, min(CHUNK_BYTES, start + file.size - offset))
            await asyncio.to_thread(hasher.update, data)
        if hasher.hexdigest() != digest:
            raise BundleError(DAMAGED, f"{file.name} in it is damaged: copy the bundle to the stick again")

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        """Append an artifact's bytes to ``writer`` from its offset on.

        Raises:
            NotFoundError: it is not in the bundle.
            NoAnswerError: the bundle can't be read any more.
            TransferError: the one in the bundle has another size.
        """
        place = self._by_digest.get(digest)
        if place is None:
            raise NotFoundError(f"{digest}: not in the bundle")
        file, start = place
        if file.size != size:
            raise TransferError(f"{digest}: the bundle's has {file.size} bytes, {size} were signed")
        while writer.offset < size:
            length = min(CHUNK_BYTES, size - writer.offset)
            try:
                data = await self._read(start + writer.offset, length)
            except BundleError as error:
                raise NoAnswerError(str(error)) from error
            await writer.append(data)

    async def close(self) -> None:
        """Let go of the file, so that the stick can be unmounted."""
        await asyncio.to_thread(self._close)

    async def _whole(self, kind: str, name: str, maximum_bytes: int) -> FetchedMetadata:
        place = self.opened.places.get((kind, name))
        if place is None:
            return FetchedMetadata(data=None)
        file, offset = place
        if file.size > maximum_bytes:
            text = f"{name}: {file.size} bytes in the bundle, at most {maximum_bytes} are allowed"
            return FetchedMetadata(data=None, error=text)
        try:
            return FetchedMetadata(data=await self._read(offset, file.size))
        except BundleError as error:
            return FetchedMetadata(data=None, error=str(error))

    async def _read(self, offset: int, length: int) -> bytes:
        try:
            data = await asyncio.to_thread(self._read_now, offset, length)
        except OSError as error:
            self.lost.set()
            raise gone() from error
        if len(data) < length:
            self.lost.set()
            raise gone()
        return data

    def _read_now(self, offset: int, length: int) -> bytes:
        with self._reading:
            if self._closed:
                raise OSError(0, "it was closed")
            return _read(self._descriptor, offset, length)

    def _close(self) -> None:
        with self._reading:
            if not self._closed:
                self._closed = True
                os.close(self._descriptor)


def gone() -> BundleError:
    """The stick was pulled."""
    return BundleError(
        GONE,
        "it can't be read any more; hand the same bundle in again, and the copy goes on where it stopped",
    )


def _open(descriptor: int) -> OpenedBundle:
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(NOT_ONE, f"it is {_kind(status.st_mode)}, not a file")
        return open_bundle(lambda offset, length: _read(descriptor, offset, length), status.st_size)
    except ProtocolError as error:
        raise BundleError(NOT_ONE, str(error)) from error
    except OSError as error:
        raise BundleError(GONE, f"it can't be read: {error.strerror}") from error


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes; fewer only where the file ends."""
    parts: list[bytes] = []
    while length > 0:
        data = os.pread(descriptor, length, offset)
        if not data:
            break
        parts.append(data)
        offset, length = offset + len(data), length - len(data)
    return b"".join(parts)


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "something else")
