"""An artifact on its way into the store."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from weakref import WeakValueDictionary

from agent.store.durable_file import make_folder, move_durable
from agent.store.errors import ArtifactError, HashMismatchError

_READ_ONLY = 0o444
_OPEN: "WeakValueDictionary[Path, PartialArtifact]" = WeakValueDictionary()
"""Partial file → who writes it in this process: two would each append to what the other has written."""
_OPENING = threading.Lock()


class PartialArtifact:
    """An artifact that is being fetched: append from :attr:`offset` on, then :meth:`finish`."""

    def __init__(
        self, partial: Path, target: Path, digest: str, size: int, *, closed: Callable[[bool], None]
    ) -> None:
        """``closed`` is told once that it is no longer open, and whether the artifact is in the store by then.

        Raises:
            ArtifactError: another one writes the same partial file.
        """
        self._partial = partial
        self._key = partial.absolute()
        self._target = target
        self._closed: Callable[[bool], None] | None = closed
        self.digest = digest
        self.size = size
        """Bytes the whole artifact has."""
        with _OPENING:
            if self._key in _OPEN:
                raise ArtifactError(
                    f"artifact {digest}: {partial} is being written already; one writer at a time is allowed"
                )
            _OPEN[self._key] = self
        try:
            self._file = self._open(partial, size)
        except BaseException:
            self._leave()
            raise

    @staticmethod
    def _open(partial: Path, size: int) -> BinaryIO:
        make_folder(partial.parent)
        file = partial.open("ab")
        if file.tell() > size:  # never ours: a partial file is cut off before it outgrows its size
            file.truncate(0)
            file.seek(0)
        return file

    def _leave(self) -> None:
        with _OPENING:
            if _OPEN.get(self._key) is self:
                del _OPEN[self._key]

    @property
    def offset(self) -> int:
        """Bytes that are already here: where to go on."""
        return self._file.tell()

    @property
    def complete(self) -> bool:
        return self.offset == self.size

    def append(self, data: bytes) -> None:
        """Write the next bytes.

        Raises:
            ArtifactError: more bytes than the artifact has; nothing is written.
            OSError: the disk is full or broken.
        """
        if self.offset + len(data) > self.size:
            raise ArtifactError(
                f"artifact {self.digest}: {len(data)} bytes at {self.offset} go beyond its size of {self.size}"
            )
        self._file.write(data)
        self._file.flush()

    def finish(self) -> Path:
        """Check the hash, sync, and put the artifact into the store; returns its path.

        Raises:
            ArtifactError: bytes are missing still.
            HashMismatchError: the bytes are not the artifact's; the partial file is removed.
        """
        if not self.complete:
            raise ArtifactError(f"artifact {self.digest}: {self.offset} of {self.size} bytes are here")
        self._file.close()
        found = hash_file(self._partial)
        if found != self.digest:
            self.discard()
            raise HashMismatchError(f"artifact {self.digest}: the bytes received have SHA-256 {found}")
        self._partial.chmod(_READ_ONLY)
        move_durable(self._partial, self._target)
        self._end(stored=True)
        return self._target

    def discard(self) -> None:
        """Give up: remove the partial file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)
        self._end()

    def close(self) -> None:
        """Keep the partial file for later."""
        self._file.close()
        self._end()

    def _end(self, *, stored: bool = False) -> None:
        self._leave()
        closed, self._closed = self._closed, None
        if closed is not None:
            closed(stored)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
        FileNotFoundError: there is none.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
