"""Over HTTP: artifacts by the device's own child, metadata by a fetch with the same patience."""

import asyncio
import hashlib
import time
from http import HTTPStatus

import httpx
from tuf.api.metadata import TargetFile

from agent.protocol.ids import Digest
from agent.protocol.transfer import Location
from agent.protocol.verification import FetchedMetadata
from agent.transport.asking import TransferSettings
from agent.transport.http_ranges import HttpRanges
from agent.transport.rate import MinimumRate
from agent.transport.sources import ByteWriter

SECONDS = TransferSettings().metadata_seconds
MINIMUM_BYTES_PER_SECOND = 64
STUCK_SECONDS = 10.0
ABSENT = {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}


class HttpWay:
    """A repository behind a web server. Both bases end with a slash."""

    def __init__(self, metadata_base: str, target_base: str) -> None:
        self._metadata_base, self._target_base = metadata_base, target_base

    async def metadata(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        try:
            async with asyncio.timeout(SECONDS):
                return FetchedMetadata(data=await get(self._metadata_base + name, maximum_bytes))
        except TimeoutError:
            return FetchedMetadata(data=None, error=f"{name}: not here after {SECONDS:g} s")
        except (httpx.HTTPError, ConnectionError) as error:
            return FetchedMetadata(data=None, error=f"{name}: {error}")

    async def artifact(self, target: TargetFile, path: str, writer: ByteWriter) -> None:
        url = self._target_base + path
        address = address_of(target, url)

        async def locate(_digest: Digest) -> Location:
            return Location(id=0, url=url, expires=time.time() + 60)

        await HttpRanges(locate, None).download(address, target.length, writer)


async def get(url: str, maximum_bytes: int) -> bytes | None:
    """A whole file of at most ``maximum_bytes``; None where there is none; ConnectionError for a trickle or too much."""
    slow = MinimumRate(MINIMUM_BYTES_PER_SECOND, STUCK_SECONDS, time.monotonic())
    async with httpx.AsyncClient(timeout=STUCK_SECONDS) as client, client.stream("GET", url) as response:
        if response.status_code in ABSENT:
            return None
        response.raise_for_status()
        data = b""
        async for piece in response.aiter_bytes():
            data += piece
            slow.arrived(len(piece))
            if len(data) > maximum_bytes:
                raise ConnectionError(f"more than {maximum_bytes} bytes came")
            if slow.judge(time.monotonic()) is not None:
                raise ConnectionError(f"slower than {MINIMUM_BYTES_PER_SECOND} bytes/s")
        return data


def address_of(target: TargetFile, url: str) -> Digest:
    """Edgeward addresses artifacts by SHA-256; a repository that states none is given one of the URL."""
    return Digest(target.hashes.get("sha256") or hashlib.sha256(url.encode()).hexdigest())
