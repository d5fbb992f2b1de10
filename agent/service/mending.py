"""What a committed release needs of the device beside its runner: its files whole, and a stand-in while they are not."""

import asyncio
import logging
from collections.abc import Callable, Iterable

import msgspec

from agent.core.model_state import ModelState
from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.state import Reason
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.ports import Downloader
from agent.store.artifacts import ArtifactStore
from agent.store.last_good import LastGood

log = logging.getLogger(__name__)


class Mender:
    """Brings back files that the disk has lost, and remembers what was committed.

    A digest was approved when the release was installed, so its bytes may come from anywhere, whatever has expired since.

    Args:
        state: of a model, as it is persisted.
        assignments: verified since the start, of all models.
    """

    def __init__(
        self,
        artifacts: ArtifactStore,
        downloader: Downloader,
        last_good: LastGood,
        *,
        state: Callable[[str], ModelState | None],
        assignments: Callable[[], Iterable[VerifiedAssignment]],
        withdrawn: Callable[[str], Iterable[int]],
    ) -> None:
        self._artifacts = artifacts
        self._downloader = downloader
        self._last_good = last_good
        self._state = state
        self._assignments = assignments
        self._withdrawn = withdrawn

    async def whole(self, release: InstalledRelease) -> bool:
        """Whether every file of ``release`` is here and has its digest, hashed now."""
        for digest in dict.fromkeys(release.files):
            if not await asyncio.to_thread(self._artifacts.verify, digest):
                return False
        return True

    async def mend(self, release: InstalledRelease) -> None:
        """Fetch what is missing or damaged; a network that is away is waited for.

        Raises:
            ReleaseError: nobody has it, there is no room, or nobody on this device knows its size.
        """
        sizes = {file.sha256: file.size for file in self._files(release.model)}
        for digest in dict.fromkeys(release.files):
            if await asyncio.to_thread(self._artifacts.verify, digest):
                continue
            if digest not in sizes:
                text = f"file {digest[:12]}… is damaged, and no desired state since the start names it"
                raise ReleaseError(Reason(code="not-mended", text=text))
            await self._downloader.obtain(Digest(digest), sizes[digest], lambda _here: None)

    def stand_ins(self, release: InstalledRelease) -> list[InstalledRelease]:
        """What may serve in place of ``release``, the best first: its own smaller variant, the release before it."""
        state = self._state(release.model)
        previous = None if state is None else state.slots.previous
        if previous is not None and previous.release in self._withdrawn(release.model):
            previous = None
        return [each for each in (release.degraded(), previous) if each is not None]

    async def remember(self, release: InstalledRelease) -> None:
        """Note what is committed in a file of its own; a disk that refuses is logged."""
        data = msgspec.json.encode(release)
        try:
            await asyncio.to_thread(self._last_good.note, release.model, data)
        except OSError as error:
            log.warning("last good release not noted", extra={"model": release.model, "why": str(error)})

    def _files(self, model: str) -> Iterable[ReleaseFile]:
        state = self._state(model)
        deployment = None if state is None else state.deployment
        known = [each for each in self._assignments() if each.model == model]
        if deployment is not None and deployment.assignment is not None:
            known.append(deployment.assignment)
        for assignment in known:
            yield from (assignment.manifest, *assignment.files)
