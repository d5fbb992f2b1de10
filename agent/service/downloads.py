"""Artifacts: from the store where they are here, else from the hub, resuming where an earlier transfer stopped."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.state import Reason
from agent.store.artifacts import ArtifactStore
from agent.store.errors import HashMismatchError, StoreError
from agent.transport.blocks import BlockClient
from agent.transport.errors import NoAnswerError, TransferError

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""Transfers that end in a refusal of the hub or in wrong bytes, before the release is refused."""
PAUSE_SECONDS = 2.0


class BlockDownloader:
    """Brings artifacts onto the device. A network that is away is waited for; what is wrong with the bytes is not."""

    def __init__(self, blocks: BlockClient, artifacts: ArtifactStore) -> None:
        self._blocks = blocks
        self._artifacts = artifacts

    async def obtain(self, digest: Digest, size: int, progress: Callable[[int], None]) -> Path:
        """The path of the complete, verified artifact.

        Raises:
            ReleaseError: the hub does not have it, sends other bytes, or there is no room; the reason says which.
        """
        if await asyncio.to_thread(self._artifacts.verify, digest):
            progress(size)
            return self._artifacts.path(digest)
        problem: Exception | None = None
        failures = 0
        while failures < ATTEMPTS:
            try:
                return await self._transfer(digest, size, progress)
            except NoAnswerError as error:
                log.info("transfer waits for the hub", extra={"artifact": digest, "why": str(error)})
            except (TransferError, HashMismatchError) as error:
                problem = error
                failures += 1
            except (StoreError, OSError) as error:
                raise ReleaseError(
                    Reason(code="no-room", text=f"the release can't be stored: {error}")
                ) from error
            await asyncio.sleep(PAUSE_SECONDS)
        raise ReleaseError(Reason(code="fetch-failed", text=f"not fetched in {ATTEMPTS} attempts: {problem}"))

    async def _transfer(self, digest: Digest, size: int, progress: Callable[[int], None]) -> Path:
        writer = await asyncio.to_thread(self._artifacts.partial, digest, size)
        try:
            await self._blocks.download(digest, size, writer, progress)
        except BaseException:
            writer.close()
            raise
        return await asyncio.to_thread(writer.finish)
