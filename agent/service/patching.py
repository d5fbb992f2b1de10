"""Files of a release, by the fewest bytes: a patch whose base is here, the file compressed, or the file as it is."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from msgspec import Struct

from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.manifest import ArtifactRef
from agent.protocol.patches import BASE_DIGITS, PatchName, parse_patch_name
from agent.protocol.telemetry import Severity
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.ports import Downloader
from agent.service.threads import ended
from agent.store.artifacts import ArtifactStore
from agent.store.errors import HashMismatchError, StoreError

log = logging.getLogger(__name__)

Tell = Callable[[Severity, str, str, VerifiedAssignment], None]
"""``(severity, kind, text, assignment)``: something worth a record happened."""
_DIGEST_DIGITS = 64


class PatchWay(Struct, frozen=True, kw_only=True):
    """A way to a file that is not the file itself."""

    file: ReleaseFile
    name: PatchName
    base: Digest | None
    """An artifact that is here; None where none is needed."""


class PatchUnusableError(Exception):
    """This patch does not lead to the file here; another way may."""


class PatchingDownloader:
    """Brings files of a release onto the device, by patches where these are smaller.

    A patch decides nothing: what it makes has the file's signed hash, or the next way is tried, the whole file last.

    Args:
        downloader: brings whatever has a digest.
        artifacts: where bases are found and results go.
        tell: told of each patch that was used, and of each that was of no use.
    """

    def __init__(self, downloader: Downloader, artifacts: ArtifactStore, tell: Tell) -> None:
        self._downloader = downloader
        self._artifacts = artifacts
        self._tell = tell
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def expected_bytes(self, ref: ArtifactRef, files: Iterable[ReleaseFile]) -> int:
        """How many bytes would travel for a file now; all of them where it is here."""
        ways = await asyncio.to_thread(self._ways, ref, tuple(files))
        return ways[0].file.size if ways else ref.size

    async def obtain(
        self, ref: ArtifactRef, assignment: VerifiedAssignment, progress: Callable[[int, int], None]
    ) -> Path:
        """The path of the complete, verified file; resumes where an earlier call stopped.

        ``progress`` is told how many of how many travelling bytes are here.

        Raises:
            ReleaseError: no way leads to it; the reason is that of the whole file.
        """
        lock = self._busy.setdefault(ref.sha256, asyncio.Lock())  # two models may name the same file
        async with lock:
            for way in await asyncio.to_thread(self._ways, ref, assignment.files):
                try:
                    path, made = await self._by_patch(way, ref, progress)
                except PatchUnusableError as error:
                    log.warning("patch of no use", extra={"patch": way.file.filename, "why": str(error)})
                    self._tell("warning", "patch-failed", f"{way.file.filename}: {error}", assignment)
                else:
                    if made:
                        text = f"{ref.filename} was made from a patch of {way.file.size} bytes instead of {ref.size}"
                        self._tell("info", "patched", text, assignment)
                    return path
            return await self._downloader.obtain(
                Digest(ref.sha256), ref.size, lambda here: progress(here, ref.size)
            )

    def _ways(self, ref: ArtifactRef, files: Iterable[ReleaseFile]) -> list[PatchWay]:
        """Patches that are smaller than the file and whose base is here, the smallest first."""
        if self._artifacts.has(ref.sha256):
            return []
        found: list[PatchWay] = []
        for file in files:
            name = parse_patch_name(file.filename)
            if name is None or name.target != ref.filename or file.size >= ref.size:
                continue
            base = None if name.base is None else self._stored(name.base)
            if base is not None or name.base is None:
                found.append(PatchWay(file=file, name=name, base=base))
        return sorted(found, key=lambda way: (way.file.size, way.file.filename))

    def _stored(self, prefix: str) -> Digest | None:
        """The one stored artifact whose digest begins so."""
        folder = self._artifacts.path(prefix.ljust(_DIGEST_DIGITS, "0")).parent
        found = [path.name for path in folder.glob(f"{prefix[:BASE_DIGITS]}*")]
        return Digest(found[0]) if len(found) == 1 else None

    async def _by_patch(
        self, way: PatchWay, ref: ArtifactRef, progress: Callable[[int, int], None]
    ) -> tuple[Path, bool]:
        """The file's path, and whether the patch made it: a bundle may have brought it while the patch came."""
        size = way.file.size
        try:
            async with contextlib.AsyncExitStack() as stack:
                held = await asyncio.to_thread(self._reservation, way, ref)
                stack.enter_context(held)
                if way.base is not None and not await asyncio.to_thread(self._artifacts.intact, way.base):
                    raise PatchUnusableError(f"its base {way.base} was damaged on this device")
                patch = await self._downloader.obtain(
                    Digest(way.file.sha256), size, lambda here: progress(here, size)
                )
                async with self._downloader.alone(Digest(ref.sha256)):
                    made = not await asyncio.to_thread(self._artifacts.verify, ref.sha256)
                    path = self._artifacts.path(ref.sha256)
                    if made:
                        path = await _in_thread(partial(self._apply, way, ref, patch))
        except (ReleaseError, StoreError) as error:
            raise PatchUnusableError(str(error)) from error
        except OSError as error:
            raise PatchUnusableError(f"the disk failed: {error}") from error
        await asyncio.to_thread(self._artifacts.remove, way.file.sha256)
        return path, made

    def _reservation(self, way: PatchWay, ref: ArtifactRef) -> contextlib.AbstractContextManager[None]:
        sizes = {way.file.sha256: way.file.size, ref.sha256: ref.size}
        if way.base is not None:
            sizes[way.base] = self._artifacts.path(way.base).stat().st_size
        return self._artifacts.reserve(sizes)

    def _apply(self, way: PatchWay, ref: ArtifactRef, patch: Path, stop: threading.Event) -> Path:
        """Make the file, from where an earlier start stopped on. Blocks; ends early, and keeps what it has, at ``stop``."""
        from agent.delta.apply import apply_patch, file_reader  # noqa: PLC0415 - a device that never patches never loads zstd
        from agent.delta.errors import PatchError  # noqa: PLC0415

        writer = self._artifacts.partial(ref.sha256, ref.size)
        with contextlib.ExitStack() as stack:
            stack.enter_context(writer)
            source = stack.enter_context(patch.open("rb"))
            base = None
            if way.base is not None:
                base = file_reader(stack.enter_context(self._artifacts.path(way.base).open("rb")))
            try:
                for piece in apply_patch(source, base, way.name.method, size=ref.size, start=writer.offset):
                    if stop.is_set():
                        raise asyncio.CancelledError
                    writer.append(piece)
                return writer.finish()
            except PatchError as error:
                writer.discard()  # what came before it may be wrong, too
                raise PatchUnusableError(str(error)) from error
            except HashMismatchError as error:
                raise PatchUnusableError(f"it makes another file: {error}") from error


async def _in_thread(work: Callable[[threading.Event], Path]) -> Path:
    """Run ``work`` in a thread; a cancellation tells it to stop, and waits until it has, so that nobody else writes meanwhile."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await ended(task)
        raise
