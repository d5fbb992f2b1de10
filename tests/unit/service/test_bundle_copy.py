"""Copying out of a bundle: the real file, downloader and store; whatever goes wrong, the bundle is to blame and nothing else."""

import asyncio
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from agent.core.judgement import Choice, choose_variant
from agent.protocol.bundle import open_bundle
from agent.protocol.ids import Digest, release_path
from agent.protocol.manifest import Manifest
from agent.protocol.state import Assignment, Reason, VariantPolicy
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service import bundle_copy
from agent.service.bundle_copy import BundleCopier, Copy, Copying
from agent.service.downloads import ArtifactDownloader, TransferPolicy
from agent.store.artifacts import ArtifactStore
from agent.transport import bundle_file
from agent.transport.bundle_file import BundleSource
from agent.transport.errors import BundleError, NoAnswerError
from agent.transport.sources import ByteWriter
from tests.support.bundles import bundle_of, index_of
from tests.unit.cloud_hub.sample_release import release_files

QUOTA = 10 * 2**20


def choose(manifest: Manifest, _assignment: VerifiedAssignment, tried: tuple[str, ...]) -> Choice | Reason:
    return choose_variant(
        manifest,
        runtimes={"onnx"},
        hardware_class="x86-64",
        policy=VariantPolicy.SMALLEST,
        tried=tried,
    )


class Away:
    """A network that does not answer."""

    way = "mqtt"

    async def download(self, *_: object) -> None:
        raise NoAnswerError("no link for 10 s")


class World:
    """A release, a bundle with it, and a device's store."""

    def __init__(self, folder: Path, *, quota: int = QUOTA) -> None:
        self.folder = folder
        self.release = release_files()
        self.store = ArtifactStore(folder / "artifacts", quota_bytes=quota)
        self.downloader = ArtifactDownloader({}, self.store, TransferPolicy(tries=1))
        self.copier = BundleCopier(self.downloader, self.store, choose)
        self.copying = Copying()
        self.bundle = folder / "b.edgeward"
        self.make()

    def make(self, *, without: str | None = None) -> None:
        needed = ("manifest.json", "onnx-fp32.onnx", "onnx-int8.onnx", "golden.msgpack", "reference.json")
        files = {
            ("artifact", release_path("digits", 1, name)): self.release[name]
            for name in needed
            if name != without
        }
        self.bundle.write_bytes(bundle_of(index_of(files), files))

    def change(self, name: str, change: Callable[[bytes], bytes]) -> None:
        data = self.bundle.read_bytes()
        bundle = open_bundle(lambda offset, length: data[offset : offset + length], len(data))
        file, start = bundle.places["artifact", release_path("digits", 1, name)]
        end = start + file.size
        self.bundle.write_bytes(data[:start] + change(data[start:end]) + data[end:])

    @property
    def assignment(self) -> VerifiedAssignment:
        files = tuple(
            ReleaseFile(filename=name, sha256=sha256(data).hexdigest(), size=len(data))
            for name, data in self.release.items()
        )
        manifest = next(file for file in files if file.filename == "manifest.json")
        return VerifiedAssignment(
            model="digits", release=1, assignment=Assignment(deployment="d1"), manifest=manifest, files=files
        )

    async def open(self) -> BundleSource:
        return await BundleSource.open(os.open(self.bundle, os.O_RDONLY))

    async def copy(self, source: BundleSource | None = None, *, tried: tuple[str, ...] = ()) -> None:
        source = source or await self.open()
        try:
            copies = [Copy(assignment=self.assignment, tried=tried)]
            async with asyncio.timeout(20):
                await self.copier.copy(source, copies, self.copying)
        finally:
            await source.close()

    def here(self) -> set[str]:
        return {name for name, data in self.release.items() if self.store.has(sha256(data).hexdigest())}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_this_device_needs_comes_and_what_its_other_variants_need_too(world: World) -> None:
    await world.copy()
    assert world.here() == {
        "manifest.json",
        "onnx-int8.onnx",
        "onnx-fp32.onnx",
        "golden.msgpack",
        "reference.json",
    }
    assert world.copying.done_bytes == world.copying.total_bytes > 0
    assert world.downloader.order(1) == ()


async def test_copied_again_it_reads_nothing_from_the_stick(world: World) -> None:
    await world.copy()
    world.change("onnx-int8.onnx", lambda data: bytes(len(data)))
    await world.copy()


async def test_a_damaged_file_is_named_and_nothing_of_it_is_kept(world: World) -> None:
    world.change("onnx-int8.onnx", lambda data: bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(BundleError, match=r"models/digits/1/onnx-int8\.onnx in it is damaged") as refusal:
        await world.copy()
    assert refusal.value.code == "damaged-bundle"
    assert "onnx-int8.onnx" not in world.here()
    assert list((world.folder / "artifacts").glob("partial/*")) == []


async def test_two_files_in_each_others_place_are_damaged_ones(world: World) -> None:
    int8, fp32 = world.release["onnx-int8.onnx"], world.release["onnx-fp32.onnx"]
    assert len(int8) == len(fp32)
    world.change("onnx-int8.onnx", lambda _: fp32)
    world.change("onnx-fp32.onnx", lambda _: int8)
    with pytest.raises(BundleError, match="damaged"):
        await world.copy()


async def test_a_missing_file_is_said_and_not_waited_for(world: World) -> None:
    world.make(without="golden.msgpack")
    with pytest.raises(
        BundleError, match="digits release 1: a file that this device needs is not in"
    ) as refusal:
        await world.copy()
    assert refusal.value.code == "incomplete-bundle"


async def test_a_stick_that_is_pulled_leaves_a_copy_that_goes_on(world: World) -> None:
    whole = world.bundle.read_bytes()
    source = await world.open()
    reading = source.download

    async def pulled(*arguments: object) -> None:
        os.truncate(world.bundle, len(whole) // 2)
        await reading(*arguments)  # type: ignore[arg-type]  # whatever the downloader passes

    source.download = pulled  # type: ignore[assignment, method-assign]  # the moment at which it is pulled
    with pytest.raises(BundleError, match="in again, and the copy goes on") as refusal:
        await world.copy(source)
    assert refusal.value.code == "bundle-gone"
    assert len(world.here()) < 5
    world.bundle.write_bytes(whole)
    await world.copy()
    assert len(world.here()) == 5


async def test_a_store_without_room_for_the_needed_refuses_and_for_the_others_does_not(
    tmp_path: Path,
) -> None:
    files = release_files()
    small = sum(
        len(files[name]) for name in ("manifest.json", "onnx-fp32.onnx", "golden.msgpack", "reference.json")
    )
    (tmp_path / "a").mkdir()
    world = World(tmp_path / "a", quota=small + 100)
    await world.copy()
    assert "onnx-int8.onnx" not in world.here()
    (tmp_path / "b").mkdir()
    world = World(tmp_path / "b", quota=small - 100)
    with pytest.raises(BundleError) as refusal:
        await world.copy()
    assert refusal.value.code == "no-room"


async def test_a_variant_that_was_refused_here_is_not_what_must_fit(tmp_path: Path) -> None:
    files = release_files()
    names = ("manifest.json", "onnx-int8.onnx", "golden.msgpack", "reference.json")
    world = World(tmp_path, quota=sum(len(files[name]) for name in names) + 100)
    await world.copy(tried=("onnx-fp32",))
    assert world.here() == set(names)


async def test_a_transfer_that_waits_for_the_network_goes_on_with_the_bundle(world: World) -> None:
    """A deployment that is being fetched when the bundle comes."""

    downloader = ArtifactDownloader({"mqtt": Away()}, world.store)  # type: ignore[dict-item]  # a source that is away
    copier = BundleCopier(downloader, world.store, choose)
    signed = next(file for file in world.assignment.files if file.filename == "onnx-int8.onnx")
    waiting = asyncio.create_task(downloader.obtain(signed.sha256, signed.size, lambda _: None))  # type: ignore[arg-type]  # a digest
    async with asyncio.timeout(20):
        while (why := downloader.transfers.waiting([signed.sha256])) is None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    assert why.text == "no network and no bundle brings its bytes: mqtt: no link for 10 s"
    source = await world.open()
    async with asyncio.timeout(20):
        await copier.copy(source, [Copy(assignment=world.assignment, tried=())], world.copying)
        assert (await waiting).read_bytes() == world.release["onnx-int8.onnx"]
    await source.close()


@pytest.mark.parametrize("tries", [1, 6])
async def test_a_stick_that_reads_otherwise_every_time_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """While the network is away: else the bytes would be waited for."""
    monkeypatch.setattr(bundle_copy, "LOOK_SECONDS", 0.05)
    downloader = ArtifactDownloader({"mqtt": Away()}, world.store, TransferPolicy(tries=tries))  # type: ignore[dict-item]  # a source that is away
    copier = BundleCopier(downloader, world.store, choose)
    source = await world.open()

    async def fine(_digest: str) -> None:
        """As it was when it was checked."""

    monkeypatch.setattr(source, "check", fine)
    world.change("golden.msgpack", lambda data: bytes(len(data)))
    with pytest.raises(BundleError, match="can't be relied on"):
        async with asyncio.timeout(20):
            await copier.copy(source, [Copy(assignment=world.assignment, tried=())], world.copying)
    await source.close()


async def test_a_copy_that_was_cut_goes_on_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_file, "CHUNK_BYTES", 10_000)
    source = await world.open()
    read, served = source._read, 0

    async def slow(offset: int, length: int) -> bytes:
        nonlocal served
        served += 1
        if served > 15:  # in the middle of the first variant
            await asyncio.Event().wait()
        return await read(offset, length)

    monkeypatch.setattr(source, "_read", slow)
    cut = asyncio.create_task(world.copy(source))
    async with asyncio.timeout(20):
        while served <= 15:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    (partial,) = (world.folder / "artifacts" / "partial").iterdir()
    here = partial.stat().st_size
    assert here > 0

    again = await world.open()
    offsets: list[int] = []
    download = again.download

    async def watched(digest: Digest, size: int, writer: ByteWriter) -> None:
        if digest == partial.name:
            offsets.append(writer.offset)
        await download(digest, size, writer)

    monkeypatch.setattr(again, "download", watched)
    await world.copy(again)
    assert offsets == [here]
    assert len(world.here()) == 5


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_left_open(world: World) -> None:
    before = open_files()
    for data in (b"", b"PK", world.bundle.read_bytes()[:-1]):
        world.bundle.write_bytes(data)
        with pytest.raises(BundleError):
            await world.open()
    world.make()
    await world.copy()
    assert open_files() == before
