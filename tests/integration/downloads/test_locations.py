"""Locations that have expired, and object stores that sign by themselves: the real child against real servers."""

import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.protocol.ids import Digest
from agent.protocol.transfer import Location, LocationRequest
from agent.transport.errors import NotFoundError, TransferError
from agent.transport.http_ranges import HttpRanges
from cloud_hub.config import DownloadSettings
from cloud_hub.database import Database
from cloud_hub.downloads.locations import LocationKey
from cloud_hub.downloads.service import Downloads
from cloud_hub.registry.artifacts import ArtifactStore
from tests.integration.downloads.conftest import SIZE, World
from tests.support.raw_http import RawServer


class Memory:
    def __init__(self) -> None:
        self.data = b""

    @property
    def offset(self) -> int:
        return len(self.data)

    async def append(self, data: bytes) -> None:
        self.data += data


def locating(world: World, *seconds: float) -> tuple[Callable[[Digest], Awaitable[Location]], list[float]]:
    """Answers with locations that live so long, one after the other."""
    left = list(seconds)

    async def locate(digest: Digest) -> Location:
        url = world.location(sha256=digest, seconds=left.pop(0))
        return Location(id=1, url=url, etag=f'"{digest}"', expires=0.0)

    return locate, left


async def test_a_location_that_has_expired_meanwhile_is_asked_for_anew(world: World) -> None:
    locate, left = locating(world, -1, 600)
    source, memory = HttpRanges(locate, world.authority), Memory()
    await source.prepare(Digest(world.sha256))
    await source.download(Digest(world.sha256), SIZE, memory)
    assert (memory.data == world.data, left) == (True, [])


async def test_a_hub_whose_locations_are_never_taken_is_asked_no_more_than_once(world: World) -> None:
    locate, left = locating(world, -1, 600)
    with pytest.raises(TransferError, match=r"the location is not taken: 410 .*has expired"):
        await HttpRanges(locate, world.authority).download(Digest(world.sha256), SIZE, Memory())
    assert left == [600]


async def test_a_server_that_another_authority_has_signed_is_not_trusted(
    world: World, tmp_path: Path
) -> None:
    from tests.support.certificates import Authority

    locate, _ = locating(world, 600)
    other = Authority(tmp_path / "other").certificate
    with pytest.raises(TransferError, match="CERTIFICATE_VERIFY_FAILED") as refused:
        await HttpRanges(locate, other).download(Digest(world.sha256), SIZE, Memory())
    assert type(refused.value) is TransferError, "its own fault, not a network that is away: counted"


async def test_an_object_store_hands_out_by_the_urls_that_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(1).randbytes(200_000)
    sha256 = hashlib.sha256(data).hexdigest()

    def answer(headers: dict[str, str]) -> bytes:
        begin = int(headers["range"].removeprefix("bytes=").removesuffix("-")) if "range" in headers else 0
        status = "206 Partial Content" if begin else "200 OK"
        shown = f"Content-Range: bytes {begin}-{len(data) - 1}/{len(data)}\r\n" if begin else ""
        head = (
            f'HTTP/1.1 {status}\r\nETag: "store\'s own"\r\nContent-Length: {len(data) - begin}\r\n{shown}'
            "Last-Modified: Sat, 28 Nov 2026 10:00:00 GMT\r\nConnection: close\r\n\r\n"
        )
        return head.encode() if server.methods[-1] == "HEAD" else head.encode() + data[begin:]

    with RawServer(answer) as server:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": server.url.partition("/file")[0],
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        store = ArtifactStore("s3://models/edgeward")
        database = Database(tmp_path / "hub.db")
        key = LocationKey.open(tmp_path)
        downloads = Downloads(DownloadSettings(), key, store, database, now=time.time)
        database.close()
        located = downloads.locate("cam-1", LocationRequest(id=1, sha256=sha256))
        assert isinstance(located, Location)
        assert f"/models/edgeward/{sha256}?X-Amz-" in located.url
        assert located.etag == '"store\'s own"'

        async def locate(_: Digest) -> Location:
            return located

        memory = Memory()
        memory.data = data[:70_000]
        await HttpRanges(locate, None).download(Digest(sha256), len(data), memory)
    assert memory.data == data
    assert server.requests[-1]["range"] == "bytes=70000-"
    assert server.requests[-1]["if-range"] == '"store\'s own"'


async def test_what_the_store_does_not_have(world: World) -> None:
    locate, _ = locating(world, 600)
    with pytest.raises(NotFoundError, match="404 Not found: there is no artifact"):
        await HttpRanges(locate, world.authority).download(Digest("ab" * 32), SIZE, Memory())


def test_a_hub_that_offers_no_http_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "hub.db")
    downloads = Downloads(
        DownloadSettings(),
        LocationKey.open(tmp_path),
        ArtifactStore(tmp_path / "artifacts"),
        database,
        now=time.time,
    )
    answer = downloads.locate("cam-1", LocationRequest(id=4, sha256="ab" * 32))
    database.close()
    assert not isinstance(answer, Location)
    assert (answer.id, answer.code) == (4, "no-location")
    assert "downloads.url in hub.toml" in answer.text
