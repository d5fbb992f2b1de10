"""Artifacts by content: ``<root>/sha256/<first two digits>/<digest>``; unfinished ones in ``<root>/partial/<digest>``.

A file under ``sha256`` is complete and had its digest when it was put there. A partial file is resumed where it
stopped, also after a restart; only its final hash decides. Whoever wants artifacts for longer than one call says so by
:meth:`ArtifactStore.reserve`: then nobody else gets their room, and garbage collection leaves them.

Everything here blocks: call it from a thread where hashing or syncing may take long (:meth:`PartialArtifact.finish`,
:meth:`ArtifactStore.verify`). Any thread may.
"""

import errno
import hashlib
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from msgspec import Struct

from agent.protocol.ids import DIGEST_PATTERN
from agent.store.durable_file import fsync_folder, sweep_temporary
from agent.store.errors import ArtifactError, DiskFullError, MissingArtifactError, QuotaExceededError
from agent.store.partial import PartialArtifact, hash_file

log = logging.getLogger(__name__)

_DIGEST = re.compile(DIGEST_PATTERN)
_BROKEN = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA})
"""What a disk says of bytes that it has lost."""

Rehash = Literal["always", "changed"]


class Room(Struct, frozen=True, kw_only=True):
    """What of the device's room for artifacts is taken."""

    quota_bytes: int
    used_bytes: int
    """Stored and partial artifacts, as they are on the disk."""
    promised_bytes: int
    """Still to come of what is being fetched or made."""
    disk_free_bytes: int
    """Of the file system; the databases need some of it too."""

    @property
    def free_bytes(self) -> int:
        """What could be fetched beside everything else."""
        quota = self.quota_bytes - self.used_bytes - self.promised_bytes
        return max(0, min(quota, self.disk_free_bytes - self.promised_bytes))


class _Facts(Struct, frozen=True):
    """Of a file when its bytes were hashed; any write to it, or another file in its place, changes one of them."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> "_Facts":
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class ArtifactStore:
    """The artifacts of one device, within a quota.

    Args:
        root: folder; created when something is stored.
        quota_bytes: bound of stored and partial artifacts together, and of what is promised to come.
        rehash: what :meth:`intact` does: hash ``always``, or where the file ``changed`` since this process hashed it.
    """

    def __init__(self, root: Path, *, quota_bytes: int, rehash: Rehash = "always") -> None:
        self._root = root
        self._complete = root / "sha256"
        self._partial = root / "partial"
        self._rehash = rehash
        self._verified: dict[str, _Facts] = {}
        self._lock = threading.RLock()
        self._holders: Counter[str] = Counter()
        """Digest → reservations that name it."""
        self._promised: dict[str, int] = {}
        """Digest that somebody holds → size it will have."""
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
        """Hash the stored file again; one that no longer has its digest, or can't be read, is removed.

        Raises:
            OSError: it can't be opened for a reason that is not the file's.
        """
        path = self.path(digest)
        try:
            facts = _Facts.of(path)
            intact = hash_file(path) == digest
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _BROKEN:
                raise
            intact = False
        if intact:
            self._verified[digest] = facts
        else:
            self._verified.pop(digest, None)
            log.warning("artifact damaged on the disk; removed", extra={"artifact": digest})
            _remove(path)
        return intact

    def intact(self, digest: str) -> bool:
        """Whether the stored file may be loaded: hashed again now, or unchanged since it was, as ``rehash`` says."""
        if self._rehash == "changed":
            try:
                if self._verified.get(digest) == _Facts.of(self.path(digest)):
                    return True
            except FileNotFoundError:
                return False
        return self.verify(digest)

    def read(self, digest: str) -> bytes:
        """The bytes of a small artifact; the ones that are returned are the ones that were hashed.

        Raises:
            MissingArtifactError: it is not here, or damaged (and then removed).
        """
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = None
        except OSError as error:
            if error.errno not in _BROKEN:
                raise
            data = None
        if data is None or hashlib.sha256(data).hexdigest() != digest:
            self.verify(digest)
            raise MissingArtifactError(f"artifact {digest}: missing or damaged on this device")
        return data

    def room(self) -> Room:
        """What is taken, what is promised, and what is free."""
        with self._lock:
            here = self._sizes()
            coming = sum(max(0, size - here.get(digest, 0)) for digest, size in self._promised.items())
        return Room(
            quota_bytes=self.quota_bytes,
            used_bytes=sum(here.values()),
            promised_bytes=coming,
            disk_free_bytes=_disk_free(self._root),
        )

    @contextmanager
    def reserve(self, sizes: Mapping[str, int]) -> Iterator[None]:
        """Hold artifacts and the room for those that are not here yet, as long as the block runs.

        Name everything that must be here at one time: what is downloaded, a patch and its base, the result it makes.

        Raises:
            QuotaExceededError: they do not fit beside what is stored and what others hold; the text has the figures.
            DiskFullError: the quota would allow it, the disk has not so much left.
        """
        self._hold(sizes)
        try:
            yield
        finally:
            self._let_go(sizes)

    def partial(self, digest: str, size: int) -> PartialArtifact:
        """Begin or resume an artifact of ``size`` bytes; its room is reserved, and it is not collected, while it is open.

        Raises:
            QuotaExceededError, DiskFullError: as :meth:`reserve`.
            ArtifactError: it is open already, in this process; nothing is done to it.
        """
        target = self.path(digest)
        sizes = {digest: size}
        self._hold(sizes)

        def closed(stored: bool) -> None:  # noqa: FBT001 - a callback's only argument
            if stored:
                self._verified[digest] = _Facts.of(target)
            self._let_go(sizes)

        try:
            return PartialArtifact(self._partial / digest, target, digest, size, closed=closed)
        except BaseException:
            self._let_go(sizes)
            raise

    def _hold(self, sizes: Mapping[str, int]) -> None:
        with self._lock:
            for digest in sizes:
                self.path(digest)
            self._require_room(sizes)
            for digest, size in sizes.items():
                self._holders[digest] += 1
                self._promised[digest] = size

    def _require_room(self, sizes: Mapping[str, int]) -> None:
        here = self._sizes()
        wanted = {**self._promised, **sizes}
        full = sum(max(here.get(digest, 0), wanted.get(digest, 0)) for digest in {*here, *wanted})
        more = sum(
            max(0, size - here.get(digest, 0))
            for digest, size in sizes.items()
            if digest not in self._promised
        )
        if more and full > self.quota_bytes:
            others = full - sum(max(here.get(digest, 0), size) for digest, size in sizes.items())
            what = f"artifact {next(iter(sizes))}" if len(sizes) == 1 else f"{len(sizes)} artifacts"
            raise QuotaExceededError(
                f"{what}: {sum(sizes.values())} bytes do not fit, {others} of the {self.quota_bytes} allowed"
                " (device.artifact_bytes) are in use or promised"
            )
        coming = sum(max(0, size - here.get(digest, 0)) for digest, size in wanted.items())
        free = _disk_free(self._root)
        if more and coming > free:
            raise DiskFullError(
                f"{coming} bytes are still to come, {free} are free on the disk of {self._root}"
            )

    def _let_go(self, sizes: Mapping[str, int]) -> None:
        with self._lock:
            for digest in sizes:
                self._holders[digest] -= 1
                if not self._holders[digest]:
                    del self._holders[digest]
                    del self._promised[digest]

    def _sizes(self) -> dict[str, int]:
        """Digest → bytes on the disk, complete and partial together."""
        found: Counter[str] = Counter()
        for file in self._files():
            found[file.name] += _size(file)
        return dict(found)

    def add(self, data: bytes) -> str:
        """Store bytes that are here already; returns their digest. Raises like :meth:`partial`."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            with self.partial(digest, len(data)) as partial:
                partial.append(data[partial.offset :])
                partial.finish()
        return digest

    def used_bytes(self) -> int:
        """Bytes of stored and partial artifacts."""
        return sum(self._sizes().values())

    def remove_unreferenced(self, keep: Collection[str]) -> list[str]:
        """Remove every artifact and partial that is neither in ``keep`` nor reserved; returns the digests removed."""
        removed: set[Path] = set()
        for file in list(self._files()):
            with self._lock:  # between the look and the deed nobody may begin to count on it
                if file.name in keep or file.name in self._holders:
                    continue
                file.unlink(missing_ok=True)
                self._verified.pop(file.name, None)
            removed.add(file)
        for folder in {file.parent for file in removed}:
            fsync_folder(folder)
        return sorted({file.name for file in removed})

    def remove(self, digest: str) -> None:
        """Remove one artifact that has done its work (a patch) at once; one that is reserved elsewhere stays."""
        with self._lock:
            if digest not in self._holders:
                self._verified.pop(digest, None)
                _remove(self.path(digest))

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


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # finished, or collected, since it was listed
        return 0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            fsync_folder(path.parent)
    except OSError as error:
        log.warning("artifact not removed", extra={"artifact": path.name, "why": str(error)})


def _disk_free(folder: Path) -> int:
    """Bytes that may still be written to the disk of ``folder``, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
