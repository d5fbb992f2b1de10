"""Copies what this device needs out of a bundle into the artifact store, before anything is installed from it.

So the stick may leave as soon as the copy is done, whatever the update waits for then; and a damaged or incomplete bundle is
refused as a whole, instead of failing a deployment that a better copy of it would have brought to its end.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from agent.core.judgement import Choice
from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.manifest import ArtifactRef
from agent.protocol.verification import VerifiedAssignment
from agent.service.downloads import ArtifactDownloader
from agent.service.installer import ChooseVariant, read_manifest
from agent.store.artifacts import ArtifactStore
from agent.transport.bundle_file import DAMAGED, BundleSource, gone
from agent.transport.errors import BundleError

LOOK_SECONDS = 1.0
LOOKS = 10
INCOMPLETE, NO_ROOM = "incomplete-bundle", "no-room"


class Copying(Struct, kw_only=True):
    """How far a copy is, in bytes."""

    total_bytes: int = 0
    done_bytes: int = 0


class Copy(Struct, frozen=True, kw_only=True):
    """One release to bring over."""

    assignment: VerifiedAssignment
    tried: tuple[str, ...]
    """Variants that this device has refused."""


class BundleCopier:
    """Brings artifacts over through the device's own downloader, to which the bundle is offered meanwhile."""

    def __init__(
        self, downloader: ArtifactDownloader, artifacts: ArtifactStore, choose: ChooseVariant
    ) -> None:
        self._downloader = downloader
        self._artifacts = artifacts
        self._choose = choose

    async def copy(self, source: BundleSource, copies: Sequence[Copy], copying: Copying) -> None:
        """Bring over what each release needs on this device; resumes where an earlier copy stopped.

        What its other variants need comes too, where there is room: the device may refuse the first one when nobody is there.

        Raises:
            BundleError: a file is missing in the bundle, or damaged; the bundle is gone; or there is no room.
        """
        self._downloader.offer(source)
        try:
            for each in copies:
                copying.total_bytes += sum(file.size for file in _brought(source, each.assignment))
            for each in copies:
                await self._copy(source, each, copying)
            copying.done_bytes = copying.total_bytes
        finally:
            self._downloader.withdraw(source.way)

    async def _copy(self, source: BundleSource, copy: Copy, copying: Copying) -> None:
        manifest = copy.assignment.manifest
        await self._bring(source, copy, manifest.sha256, manifest.size, copying)
        needed = await asyncio.to_thread(self._needed, copy)
        for ref in needed:
            await self._bring(source, copy, ref.sha256, ref.size, copying)
        done = {manifest.sha256, *(ref.sha256 for ref in needed)}
        for file in _brought(source, copy.assignment):
            if file.sha256 in done:
                continue
            try:
                await self._bring(source, copy, file.sha256, file.size, copying)
            except BundleError as error:
                if error.code != NO_ROOM:
                    raise

    def _needed(self, copy: Copy) -> list[ArtifactRef]:
        """What the variant needs that this device would choose; nothing where it would refuse the release."""
        path = self._artifacts.path(copy.assignment.manifest.sha256)
        try:
            manifest = read_manifest(path)
        except ReleaseError:
            return []
        choice = self._choose(manifest, copy.assignment, copy.tried)
        if not isinstance(choice, Choice):
            return []
        return [choice.variant.artifact, manifest.golden.artifact, manifest.drift_reference]

    async def _bring(
        self, source: BundleSource, copy: Copy, digest: str, size: int, copying: Copying
    ) -> None:
        """One file, whole and checked, from the bundle into the store.

        Every byte of it is read and hashed before the first one is copied: what is damaged is the bundle's fault, and is found
        out while the person who can make a better copy is still there.
        """
        if await asyncio.to_thread(self._artifacts.verify, digest):
            copying.done_bytes += size
            return
        file = source.find(digest)
        if file is None or file.size != size:
            name = f"{copy.assignment.model} release {copy.assignment.release}"
            raise BundleError(
                INCOMPLETE,
                f"{name}: a file that this device needs is not in the bundle; export it with --complete",
            )
        await source.check(digest)
        before = copying.done_bytes

        def progress(here: int) -> None:
            copying.done_bytes = before + here

        await self._while_it_is_there(source, digest, size, progress)
        copying.done_bytes = before + size

    async def _while_it_is_there(
        self, source: BundleSource, digest: str, size: int, progress: Callable[[int], None]
    ) -> None:
        obtain = asyncio.ensure_future(self._downloader.obtain(Digest(digest), size, progress))
        lost = asyncio.ensure_future(source.lost.wait())
        try:
            waits = 0
            while not obtain.done():
                await asyncio.wait({obtain, lost}, return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_SECONDS)
                if lost.done() and not obtain.done():
                    raise gone()
                waiting = self._downloader.transfers.waiting([digest])
                waits = 0 if waiting is None else waits + 1
                if waiting is not None and waits > LOOKS:
                    raise _unreliable(waiting.text)
            try:
                obtain.result()
            except ReleaseError as error:
                if error.reason.code == NO_ROOM:
                    raise BundleError(NO_ROOM, error.reason.text) from error
                raise _unreliable(error.reason.text) from error
        finally:
            for task in (obtain, lost):
                task.cancel()
            await asyncio.gather(obtain, lost, return_exceptions=True)


def _unreliable(text: str) -> BundleError:
    """It was whole when it was checked, and does not come over: a stick that reads otherwise every time."""
    return BundleError(DAMAGED, f"the stick can't be relied on: {text}")


def _brought(source: BundleSource, assignment: VerifiedAssignment) -> Iterable[ArtifactRef]:
    """Files of a release that are in the bundle."""
    return [
        ArtifactRef(filename=file.filename, sha256=file.sha256, size=file.size)
        for file in assignment.files
        if source.find(file.sha256) is not None
    ]
