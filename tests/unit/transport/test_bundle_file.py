"""An open bundle: read by stretches, whatever its size; what can't be read any more is said once."""

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from agent.protocol.ids import Digest
from agent.protocol.limits import MAX_DIRECTOR_BYTES
from agent.transport.bundle_file import CHUNK_BYTES, BundleSource
from agent.transport.errors import BundleError, NoAnswerError, NotFoundError, TransferError
from tests.support.bundles import bundle_of, index_of

LARGE = bytes(1024) * 32 * 1024
DIGEST = Digest(sha256(LARGE).hexdigest())
FILES = {
    ("metadata", "1.root.json"): b"root",
    ("director", "camera-1"): b"document",
    ("director", "camera-2"): bytes(MAX_DIRECTOR_BYTES + 1),
    ("artifact", "models/digits/1/large.onnx"): LARGE,
}


class Sink:
    """A writer that counts, or stops at some point."""

    def __init__(self) -> None:
        self.offset = 0
        self.largest = 0

    async def append(self, data: bytes) -> None:
        self.offset += len(data)
        self.largest = max(self.largest, len(data))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "b.edgeward"
    path.write_bytes(bundle_of(index_of(FILES), FILES))
    return path


@pytest.fixture
async def source(file: Path) -> AsyncIterator[BundleSource]:
    opened = await BundleSource.open(os.open(file, os.O_RDONLY))
    yield opened
    await opened.close()


async def test_a_large_file_is_never_in_memory_as_a_whole(source: BundleSource) -> None:
    sink = Sink()
    tracemalloc.start()
    try:
        await source.check(DIGEST)
        await source.download(DIGEST, len(LARGE), sink)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (sink.offset, sink.largest) == (len(LARGE), CHUNK_BYTES)
    assert peak < 8 * CHUNK_BYTES


async def test_metadata_and_documents_have_their_limits(source: BundleSource) -> None:
    assert (await source.metadata("1.root.json", 100)).data == b"root"
    assert (await source.metadata("2.root.json", 100)).data is None
    assert (await source.metadata("camera-1", 100)).data is None
    assert "at most 2 are allowed" in str((await source.metadata("1.root.json", 2)).error)
    assert await source.document("camera-1") == b"document"
    assert await source.document("camera-9") is None
    with pytest.raises(BundleError, match="at most"):
        await source.document("camera-2")


async def test_what_it_does_not_have_or_has_otherwise_is_said(source: BundleSource) -> None:
    with pytest.raises(NotFoundError):
        await source.download(Digest("0" * 64), 1, Sink())
    with pytest.raises(TransferError, match="has 33554432 bytes, 5 were signed"):
        await source.download(DIGEST, 5, Sink())


async def test_once_it_is_gone_every_reader_hears_it(source: BundleSource, file: Path) -> None:
    os.truncate(file, 2000)
    with pytest.raises(NoAnswerError, match="can't be read any more"):
        await source.download(DIGEST, len(LARGE), Sink())
    assert source.lost.is_set()
    with pytest.raises(BundleError):
        await source.check(DIGEST)


async def test_closed_under_a_reader_nothing_else_is_read(source: BundleSource, file: Path) -> None:
    """Another file that gets the same descriptor must not be taken for the bundle."""
    await source.close()
    other = [os.open(file, os.O_RDONLY) for _ in range(4)]
    try:
        with pytest.raises(NoAnswerError):
            await source.download(DIGEST, len(LARGE), Sink())
    finally:
        for descriptor in other:
            os.close(descriptor)
    await asyncio.gather(source.close(), source.close())
