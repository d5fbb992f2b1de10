"""Artifacts by content: ``<root>/sha256/<first two digits>/<digest>``; unfinished ones in ``<root>/partial/<digest>``.

A file under ``sha256`` is complete and had its digest when it was put there. A partial file is resumed where it
stopped, also after a restart; only its final hash decides. Everything here blocks: call it from a thread where
hashing or syncing may take long (:meth:`PartialArtifact.finish`, :meth:`ArtifactStore.verify`).
"""

import hashlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from agent.protocol.ids import DIGEST_PATTERN
from agent.store.durable_file import fsync_folder, make_folder, move_durable, sweep_temporary
from agent.store.errors import ArtifactError, HashMismatchError, QuotaExceededError

_DIGEST = re.compile(DIGEST_PATTERN)
_READ_ONLY = 0o444


class PartialArtifact:
    """An artifact that is being fetched: append from :attr:`offset` on, then :meth:`finish`."""

    def __init__(self, partial: Path, target: Path, digest: str, size: int) -> None:
        self._partial = partial
        self._target = target
        self.digest = digest
        self.size = size
        """Bytes the whole artifact has."""
        make_folder(partial.parent)
        self._file: BinaryIO = partial.open("ab")
        if self._file.tell() > size:  # never ours: a partial file is cut off before it outgrows its size
            self._file.truncate(0)
            self._file.seek(0)

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
            self._partial.unlink()
            raise HashMismatchError(f"artifact {self.digest}: the bytes received have SHA-256 {found}")
        self._partial.chmod(_READ_ONLY)
        move_durable(self._partial, self._target)
        return self._target

    def discard(self) -> None:
        """Give up: remove the partial file."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep the partial file for later."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArtifactStore:
    """The artifacts of one device, within a quota.

    Args:
        root: folder; created when something is stored.
        quota_bytes: bound of stored and partial artifacts together.
    """

    def __init__(self, root: Path, *, quota_bytes: int) -> None:
        self._complete = root / "sha256"
        self._partial = root / "partial"
        self.quota_bytes = quota_bytes

    def path(self, digest: str) -> Path:
        """Where an artifact is, or would be.

        Raises:
            ArtifactError: not a SHA-256 digest.
        """
        if _DIGEST.match(digest) is None:
            raise ArtifactError(f"{digest!r} is not a SHA-256 digest: 64 lower-case hexadecimal digits")
        return self._complete / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the artifact is here, complete (its hash was checked when it came)."""
        return self.path(digest).is_file()

    def verify(self, digest: str) -> bool:
        """Hash the stored file again; one that no longer has its digest is removed."""
        path = self.path(digest)
        try:
            intact = hash_file(path) == digest
        except FileNotFoundError:
            return False
        if not intact:
            path.unlink(missing_ok=True)
            fsync_folder(path.parent)
        return intact

    def partial(self, digest: str, size: int) -> PartialArtifact:
        """Begin or resume an artifact of ``size`` bytes.

        Raises:
            QuotaExceededError: it does not fit beside what is stored; the text has the figures.
        """
        target = self.path(digest)
        partial = self._partial / digest
        others = sum(file.stat().st_size for file in self._files() if file != partial)
        if others + size > self.quota_bytes:
            raise QuotaExceededError(
                f"artifact {digest}: {size} bytes do not fit, {others} of the {self.quota_bytes} allowed are in use"
            )
        return PartialArtifact(partial, target, digest, size)

    def add(self, data: bytes) -> str:
        """Store bytes that are here already; returns their digest. Raises like :meth:`partial`."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            partial = self.partial(digest, len(data))
            partial.append(data[partial.offset :])
            partial.finish()
        return digest

    def used_bytes(self) -> int:
        """Bytes of stored and partial artifacts."""
        return sum(file.stat().st_size for file in self._files())

    def remove_unreferenced(self, keep: Collection[str]) -> list[str]:
        """Remove every artifact and partial whose digest is not in ``keep``; returns the digests removed."""
        doomed = [file for file in self._files() if file.name not in keep]
        for file in doomed:
            file.unlink(missing_ok=True)
        for folder in {file.parent for file in doomed}:
            fsync_folder(folder)
        return sorted({file.name for file in doomed})

    def sweep(self) -> list[Path]:
        """Remove what does not belong here (interrupted writes, foreign names); returns what was removed."""
        removed: list[Path] = []
        for folder in (self._partial, *sorted(self._complete.glob("*"))):
            if not folder.is_dir():
                continue
            removed += sweep_temporary(folder)
            for file in sorted(folder.iterdir()):
                if file.is_file() and not self._belongs(file):
                    file.unlink()
                    removed.append(file)
        return removed

    def _belongs(self, file: Path) -> bool:
        if _DIGEST.match(file.name) is None:
            return False
        return file.parent == self._partial or file.parent.name == file.name[:2]

    def _files(self) -> Iterator[Path]:
        yield from (file for file in self._complete.glob("??/*") if file.is_file())
        yield from (file for file in self._partial.glob("*") if file.is_file())


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
        FileNotFoundError: there is none.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
