"""The smallest way to a file: real patches, the real downloader and store; the far end is a source in this file."""

import asyncio
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.delta.make import make_patch
from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.manifest import ArtifactRef
from agent.protocol.patches import PatchMethod, patch_name
from agent.protocol.state import Assignment, Way
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.downloads import ArtifactDownloader, TransferPolicy
from agent.service.patching import PatchingDownloader
from agent.store.artifacts import ArtifactStore
from agent.store.partial import PartialArtifact
from agent.transport.backoff import Backoff
from agent.transport.errors import NotFoundError
from agent.transport.sources import ByteWriter
from tests.unit.delta.patches import nudged, weights

BASE = weights(300_000)
TARGET = nudged(BASE, 0.02)
NAME = "student.onnx"
POLICY = TransferPolicy(tries=2, backoff=Backoff(minimum=0.001, maximum=0.002))


class Shelf:
    """A ``ByteSource`` over a dictionary; counts the bytes that it gave."""

    way: Way = "mqtt"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.given: dict[str, int] = {}

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.files[digest] = data
        return digest

    async def download(self, digest: Digest, size: int, writer: ByteWriter) -> None:
        if digest not in self.files:
            raise NotFoundError("it is not there")
        for start in range(writer.offset, size, 8192):
            part = self.files[digest][start : min(size, start + 8192)]
            await writer.append(part)
            self.given[digest] = self.given.get(digest, 0) + len(part)


class WatchedStore(ArtifactStore):
    """Notes where each piece was written, and how long it was."""

    def __init__(self, root: Path, *, quota_bytes: int) -> None:
        super().__init__(root, quota_bytes=quota_bytes)
        self.written: dict[str, list[int]] = {}
        self.lengths: dict[str, list[int]] = {}
        self.before_append: Callable[[str], None] = lambda _: None

    def partial(self, digest: str, size: int) -> PartialArtifact:
        writer = super().partial(digest, size)
        append = writer.append

        def noted(data: bytes) -> None:
            self.written.setdefault(digest, []).append(writer.offset)
            self.lengths.setdefault(digest, []).append(len(data))
            self.before_append(digest)
            append(data)

        writer.append = noted  # type: ignore[method-assign]
        return writer


class World:
    """A device that has ``BASE``, a shelf with ``TARGET``, and the release that names it."""

    def __init__(self, folder: Path, quota_bytes: int = 1 << 22) -> None:
        self.shelf = Shelf()
        self.store = WatchedStore(folder, quota_bytes=quota_bytes)
        self.base = self.store.add(BASE)
        self.ref = ArtifactRef(filename=NAME, sha256=self.shelf.put(TARGET), size=len(TARGET))
        self.files = [ReleaseFile(filename=NAME, sha256=self.ref.sha256, size=self.ref.size)]
        self.told: list[tuple[str, str]] = []
        self.progress: list[tuple[int, int]] = []
        self.downloader = ArtifactDownloader({"mqtt": self.shelf}, self.store, POLICY)
        self.patching = PatchingDownloader(
            self.downloader,
            self.store,
            lambda _severity, kind, text, _assignment: self.told.append((kind, text)),
        )

    def add(self, method: PatchMethod, data: bytes, base: str | None = None) -> ReleaseFile:
        name = patch_name(NAME, method, base)
        assert name is not None
        file = ReleaseFile(filename=name, sha256=self.shelf.put(data), size=len(data))
        self.files.append(file)
        return file

    def add_sub8(self) -> ReleaseFile:
        return self.add(PatchMethod.SUB8, make_patch(BASE, TARGET, PatchMethod.SUB8), self.base)

    def add_zstd(self) -> ReleaseFile:
        return self.add(PatchMethod.ZSTD, make_patch(b"", TARGET, PatchMethod.ZSTD))

    @property
    def assignment(self) -> VerifiedAssignment:
        manifest = ReleaseFile(filename="manifest.json", sha256="0" * 64, size=1)
        return VerifiedAssignment(
            model="digits",
            release=2,
            assignment=Assignment(deployment="d2"),
            manifest=manifest,
            files=tuple(self.files),
        )

    async def bring_whole(self) -> Path:
        """As a bundle's copy does."""
        return await self.downloader.obtain(Digest(self.ref.sha256), self.ref.size, lambda _: None)

    async def obtain(self) -> bytes:
        path = await self.patching.obtain(self.ref, self.assignment, lambda *both: self.progress.append(both))
        assert path == self.store.path(self.ref.sha256)
        return path.read_bytes()

    @property
    def travelled(self) -> dict[str, int]:
        names = {file.sha256: file.filename for file in self.files}
        return {names[digest]: count for digest, count in self.shelf.given.items()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "artifacts")


async def test_of_several_ways_the_smallest_is_taken(world: World) -> None:
    patch = world.add_sub8()
    zstd = world.add_zstd()
    assert patch.size < zstd.size < len(TARGET)
    assert await world.patching.expected_bytes(world.ref, world.files) == patch.size
    assert await world.obtain() == TARGET
    assert world.travelled == {patch.filename: patch.size}
    assert world.progress[-1] == (patch.size, patch.size), "progress counts what travels"
    text = f"{NAME} was made from a patch of {patch.size} bytes instead of {len(TARGET)}"
    assert world.told == [("patched", text)]
    assert not world.store.has(patch.sha256), "a patch has done its work"
    assert world.store.has(world.base)


async def test_without_its_base_a_patch_is_no_way(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add_sub8()
    zstd = world.add_zstd()
    world.store.remove(world.base)
    assert await world.obtain() == TARGET
    assert world.travelled == {zstd.filename: zstd.size}


async def test_without_a_smaller_way_the_file_itself_comes(world: World) -> None:
    world.add(PatchMethod.ZSTD, bytes(len(TARGET) + 1))
    assert await world.patching.expected_bytes(world.ref, world.files) == len(TARGET)
    assert await world.obtain() == TARGET
    assert world.travelled == {NAME: len(TARGET)}
    assert world.told == []


async def test_what_is_here_already_does_not_travel(world: World) -> None:
    world.add_sub8()
    world.store.add(TARGET)
    assert await world.obtain() == TARGET
    assert world.travelled == {}


async def test_a_patch_that_is_none_is_told_of_and_the_next_way_taken(world: World) -> None:
    world.add(PatchMethod.SUB32, b"no patch at all", world.base)
    patch = world.add_sub8()
    assert await world.obtain() == TARGET
    assert [kind for kind, _ in world.told] == ["patch-failed", "patched"]
    assert "this is no patch" in world.told[0][1]
    assert NAME in world.told[0][1]
    assert patch.filename in world.travelled


async def test_a_patch_that_makes_another_file_leads_to_the_whole_one(world: World) -> None:
    world.add(PatchMethod.SUB8, make_patch(BASE, TARGET[:-1] + b"!", PatchMethod.SUB8), world.base)
    assert await world.obtain() == TARGET
    assert [kind for kind, _ in world.told] == ["patch-failed"]
    assert "it makes another file" in world.told[0][1]
    assert world.travelled[NAME] == len(TARGET)


async def test_a_patch_that_goes_wrong_at_its_end_leaves_no_wrong_bytes_behind(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = make_patch(BASE, nudged(TARGET, 0.1), PatchMethod.SUB8)
    world.add(PatchMethod.SUB8, wrong + b"more", world.base)
    assert await world.obtain() == TARGET
    assert "goes on behind its end" in world.told[0][1]
    assert world.travelled[NAME] == len(TARGET)
    assert not [record for record in caplog.records if record.message == "wrong bytes"]


async def test_a_base_that_the_disk_damaged_is_found_out_before_bytes_travel(world: World) -> None:
    patch = world.add_sub8()
    path = world.store.path(world.base)
    path.chmod(0o644)
    path.write_bytes(BASE[:-1] + bytes([BASE[-1] ^ 1]))
    assert await world.obtain() == TARGET
    assert "was damaged on this device" in world.told[0][1]
    assert patch.filename not in world.travelled


async def test_a_patch_the_hub_does_not_have_leads_to_the_whole_file(world: World) -> None:
    patch = world.add_sub8()
    del world.shelf.files[patch.sha256]
    assert await world.obtain() == TARGET
    assert "it is not there" in world.told[0][1]


async def test_where_patch_and_result_do_not_fit_together_the_whole_file_may(tmp_path: Path) -> None:
    world = World(tmp_path, quota_bytes=len(BASE) + len(TARGET))
    patch = world.add_sub8()
    assert await world.obtain() == TARGET
    assert patch.filename not in world.travelled
    assert "do not fit" in world.told[0][1]


async def test_no_way_at_all_is_the_whole_files_reason(world: World) -> None:
    world.add_sub8()
    world.shelf.files.clear()
    with pytest.raises(ReleaseError) as error:
        await world.obtain()
    assert error.value.reason.code == "fetch-failed"


async def test_applying_goes_on_where_a_restart_cut_it(world: World) -> None:
    world.add_sub8()
    with world.store.partial(world.ref.sha256, world.ref.size) as writer:
        writer.append(TARGET[:150_001])
    assert await world.obtain() == TARGET
    assert world.store.written[world.ref.sha256][1] == 150_001, "nothing was written again"
    assert sum(world.store.lengths[world.ref.sha256]) == len(TARGET)


async def test_a_cancellation_stops_the_writing_and_keeps_what_is_there(world: World) -> None:
    world.add_sub8()
    begun, go = threading.Event(), threading.Event()

    def hold(digest: str) -> None:
        if digest == world.ref.sha256:
            begun.set()
            go.wait(10)

    world.store.before_append = hold
    task = asyncio.create_task(world.obtain())
    assert await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    for _ in range(5):  # until the cancellation has come to where the thread is waited for
        await asyncio.sleep(0)
    assert not task.done(), "it waits for its thread"
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(world.store.written[world.ref.sha256]) == 1, "one piece was under way, and no other was begun"
    assert not world.store.has(world.ref.sha256)
    assert await world.obtain() == TARGET
    assert sum(world.store.lengths[world.ref.sha256]) == len(TARGET)


async def test_two_models_that_name_one_file_make_it_once(world: World) -> None:
    patch = world.add_sub8()
    first, second = await asyncio.gather(world.obtain(), world.obtain())
    assert first == second == TARGET
    assert world.travelled == {patch.filename: patch.size}


async def test_a_bundle_that_brings_the_file_while_a_patch_makes_it_waits_for_it(world: World) -> None:
    world.add_sub8()
    begun, go = threading.Event(), threading.Event()

    def hold(digest: str) -> None:
        if digest == world.ref.sha256:
            begun.set()
            go.wait(10)

    world.store.before_append = hold
    making = asyncio.create_task(world.obtain())
    assert await asyncio.to_thread(begun.wait, 10)
    copying = asyncio.create_task(world.bring_whole())
    await asyncio.sleep(0.05)
    assert not copying.done()
    go.set()
    assert await making == (await copying).read_bytes() == TARGET
    assert world.ref.sha256 not in world.shelf.given, "it came once"


async def test_a_patch_is_not_applied_when_the_file_came_whole_meanwhile(world: World) -> None:
    patch = world.add_sub8()
    begun, go = threading.Event(), threading.Event()

    def hold(digest: str) -> None:
        if digest == patch.sha256:
            begun.set()
            go.wait(10)

    world.store.before_append = hold
    making = asyncio.create_task(world.obtain())
    assert await asyncio.to_thread(begun.wait, 10)
    assert (await world.bring_whole()).read_bytes() == TARGET
    written = sum(world.store.lengths[world.ref.sha256])
    go.set()
    assert await making == TARGET
    assert sum(world.store.lengths[world.ref.sha256]) == written == len(TARGET)
    assert world.told == [], "no patch made it"
    assert not world.store.has(patch.sha256)


async def test_a_patch_for_another_file_of_the_release_is_not_taken(world: World) -> None:
    patch = world.add_sub8()
    world.files[-1] = replace(patch, filename=patch.filename.replace(NAME, "teacher.onnx"))
    assert await world.obtain() == TARGET
    assert world.travelled == {NAME: len(TARGET)}
