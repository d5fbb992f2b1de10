"""Installing: what is named must be what was signed; what is returned is complete."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agent.core.judgement import Choice
from agent.core.slots import StandbyVariant
from agent.errors import ReleaseError
from agent.protocol.ids import Digest
from agent.protocol.manifest import ArtifactRef, Manifest
from agent.protocol.state import Assignment, Reason, ShadowPolicy, VariantPolicy
from agent.protocol.verification import ReleaseFile, VerifiedAssignment
from agent.service.installer import ChooseVariant, Installer, read_manifest
from agent.service.patching import PatchingDownloader
from agent.store.artifacts import ArtifactStore
from tests.contract.protocol.samples import MANIFEST

CHOSEN = "onnx-int8"
STANDBY = "tflite-int8"
TWO = replace(
    MANIFEST,
    variants=(
        *MANIFEST.variants,
        replace(
            MANIFEST.variants[0],
            name=STANDBY,
            artifact=replace(MANIFEST.variants[0].artifact, filename="student.tflite", sha256="8" * 64),
        ),
    ),
)
WHY = Reason(code="most-accurate", text="the most accurate of 2")


class Shelf:
    """A ``Downloader``: bytes by digest, handed out in two steps of progress."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / digest).write_bytes(data)
        return digest

    async def obtain(self, digest: Digest, size: int, progress: Callable[[int], None]) -> Path:
        self.asked.append(digest)
        path = self.folder / digest
        if not path.exists():
            raise ReleaseError(Reason(code="fetch-failed", text=f"{digest} is not there"))
        assert path.stat().st_size == size
        progress(size // 2)
        progress(size)
        return path

    def alone(self, _digest: Digest) -> asyncio.Lock:
        return asyncio.Lock()


class Release:
    """A release on the shelf, and the assignment that names it; ``change`` edits the manifest before it is signed."""

    def __init__(self, shelf: Shelf, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        refs = {}
        for ref in TWO.artifacts():
            data = ref.filename.encode() * 7
            refs[ref.filename] = ArtifactRef(filename=ref.filename, sha256=shelf.put(data), size=len(data))
        plain = msgspec.to_builtins(TWO)
        _fill_in(plain, msgspec.to_builtins(refs))
        change(plain)
        self.data = msgspec.json.encode(plain)
        digest = shelf.put(self.data)
        files = tuple(
            ReleaseFile(filename=ref.filename, sha256=ref.sha256, size=ref.size) for ref in refs.values()
        )
        manifest = ReleaseFile(filename="manifest.json", sha256=digest, size=len(self.data))
        self.assignment = VerifiedAssignment(
            model="digits",
            release=2,
            assignment=Assignment(
                deployment="d2", variant_policy=VariantPolicy.SMALLEST, shadow=ShadowPolicy(requests=5)
            ),
            manifest=manifest,
            files=(manifest, *files),
        )
        self.digests = {name: ref.sha256 for name, ref in refs.items()}


def _fill_in(value: Any, refs: dict[str, Any]) -> None:
    """Give every artifact that ``value`` names the digest and size of the file on the shelf."""
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict) and item.get("filename") in refs:
            item.update(refs[item["filename"]])
        elif isinstance(item, dict | list | tuple):
            _fill_in(item, refs)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def choose(manifest: Manifest, _assignment: VerifiedAssignment, _tried: tuple[str, ...]) -> Choice | Reason:
    return Choice(variant=manifest.variant(CHOSEN), reason=WHY, standby=None)


def choose_with_standby(
    manifest: Manifest, _assignment: VerifiedAssignment, _tried: tuple[str, ...]
) -> Choice | Reason:
    return Choice(variant=manifest.variant(CHOSEN), reason=WHY, standby=manifest.variant(STANDBY))


def installer(shelf: Shelf, choosing: ChooseVariant = choose) -> Installer:
    """No artifact is stored yet, so nothing comes by patches."""
    store = ArtifactStore(shelf.folder / "store", quota_bytes=10**9)
    return Installer(PatchingDownloader(shelf, store, lambda *_: None), choosing)


async def refusal(shelf: Shelf, assignment: VerifiedAssignment) -> Reason:
    with pytest.raises(ReleaseError) as error:
        await installer(shelf).install(assignment, (), lambda _done, _total: None)
    return error.value.reason


async def test_a_release_is_complete_when_it_is_returned(shelf: Shelf) -> None:
    release = Release(shelf)
    told: list[tuple[int, int]] = []
    installed = await installer(shelf).install(release.assignment, (), lambda *both: told.append(both))
    assert (installed.model, installed.release, installed.variant) == ("digits", 2, CHOSEN)
    assert installed.deployment == "d2"
    assert installed.variant_policy is VariantPolicy.SMALLEST
    assert installed.shadow == ShadowPolicy(requests=5)
    assert installed.artifact == release.digests["student.onnx"]
    assert installed.manifest == release.assignment.manifest.sha256
    needed = [release.digests[name] for name in ("student.onnx", "golden.msgpack", "reference.json")]
    assert installed.files == (release.assignment.manifest.sha256, *needed)
    assert shelf.asked == list(installed.files), "the manifest first; evidence stays on the hub"
    total = sum(len((shelf.folder / digest).read_bytes()) for digest in needed)
    assert told == sorted(told)
    assert (told[0][0] > 0, told[-1]) == (True, (total, total))


async def test_the_standby_is_fetched_last_and_kept_with_the_release(shelf: Shelf) -> None:
    release = Release(shelf)
    installed = await installer(shelf, choose_with_standby).install(
        release.assignment, (), lambda _done, _total: None
    )
    digest = release.digests["student.tflite"]
    assert installed.standby == StandbyVariant(variant=STANDBY, artifact=digest)
    assert installed.chosen == WHY
    assert installed.files[-1] == shelf.asked[-1] == digest
    degraded = installed.degraded()
    assert degraded is not None
    assert (degraded.variant, degraded.artifact, degraded.standby) == (STANDBY, digest, None)


async def test_a_release_is_installed_without_a_standby_that_cant_be_had(
    shelf: Shelf, tmp_path: Path
) -> None:
    release = Release(shelf)
    (tmp_path / release.digests["student.tflite"]).unlink()
    installed = await installer(shelf, choose_with_standby).install(
        release.assignment, (), lambda _done, _total: None
    )
    assert installed.standby is None
    assert release.digests["student.tflite"] not in installed.files
    assert installed.chosen is not None
    assert "tflite-int8 is not kept beside it" in installed.chosen.text
    assert installed.degraded() is None


async def test_a_file_that_the_manifest_names_is_no_patch_whatever_its_name(shelf: Shelf) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["drift_reference"]["filename"] = "student.onnx.zst"

    signed = Release(shelf, rename).assignment
    zst = next(file for file in signed.files if file.filename == "reference.json")
    others = [file for file in signed.files if file is not zst]
    patch = ReleaseFile(filename="golden.msgpack.zst", sha256="9" * 64, size=1)
    offered: list[str] = []

    class Noting(PatchingDownloader):
        async def obtain(
            self, ref: ArtifactRef, assignment: VerifiedAssignment, progress: Callable[[int, int], None]
        ) -> Path:
            if ref.filename != "manifest.json":
                offered.extend(file.filename for file in assignment.files)
            return await super().obtain(ref, replace(assignment, files=()), progress)

    store = ArtifactStore(shelf.folder / "store", quota_bytes=10**9)
    installing = Installer(Noting(shelf, store, lambda *_: None), choose)
    files = (*others, replace(zst, filename="student.onnx.zst"), patch)
    await installing.install(replace(signed, files=files), (), lambda _done, _total: None)
    assert set(offered) == {"golden.msgpack.zst", "manifest.json"}


async def test_the_choice_knows_what_was_tried(shelf: Shelf) -> None:
    release = Release(shelf)
    asked: list[tuple[str, ...]] = []

    def none_left(_m: Manifest, _a: VerifiedAssignment, tried: tuple[str, ...]) -> Choice | Reason:
        asked.append(tried)
        return Reason(code="no-variant", text="none is left")

    with pytest.raises(ReleaseError, match="none is left") as error:
        await installer(shelf, none_left).install(
            release.assignment, ("onnx-fp32",), lambda _done, _total: None
        )
    assert error.value.reason.code == "no-variant"
    assert asked == [("onnx-fp32",)]
    assert len(shelf.asked) == 1, "nothing but the manifest was fetched"


async def test_a_manifest_of_another_release_is_refused(shelf: Shelf) -> None:
    reason = await refusal(shelf, replace(Release(shelf).assignment, release=3))
    assert reason.code == "wrong-release"
    assert "digits release 2, not of digits release 3" in reason.text
    reason = await refusal(shelf, replace(Release(shelf).assignment, model="faces"))
    assert reason.code == "wrong-release"


@pytest.mark.parametrize("name", [ref.filename for ref in TWO.artifacts()])
async def test_every_file_the_manifest_names_must_be_signed_as_that_file(shelf: Shelf, name: str) -> None:
    signed = Release(shelf).assignment
    for change in (None, {"sha256": "f" * 64}, {"size": 1}, {"filename": "other"}):
        files = tuple(
            replace(file, **(change or {})) if file.filename == name else file
            for file in signed.files
            if change is not None or file.filename != name
        )
        reason = await refusal(shelf, replace(signed, files=files))
        assert reason.code == "not-approved"
        assert name in reason.text
    assert shelf.asked == [signed.manifest.sha256] * 4, "no file of it was fetched"


async def test_a_broken_manifest_is_refused_by_its_field(shelf: Shelf) -> None:
    reason = await refusal(shelf, Release(shelf, lambda m: m.update(colour="red")).assignment)
    assert reason.code == "malformed-manifest"
    assert "`colour`" in reason.text


async def test_a_newer_manifest_is_refused_as_newer(shelf: Shelf) -> None:
    reason = await refusal(shelf, Release(shelf, lambda m: m.update(schema=2)).assignment)
    assert reason.code == "newer-schema"
    assert "update Edgeward first" in reason.text


async def test_a_file_that_cant_be_had_is_the_downloaders_reason(shelf: Shelf, tmp_path: Path) -> None:
    release = Release(shelf)
    (tmp_path / release.digests["golden.msgpack"]).unlink()
    assert (await refusal(shelf, release.assignment)).code == "fetch-failed"


def test_a_stored_manifest_is_read(shelf: Shelf, tmp_path: Path) -> None:
    release = Release(shelf)
    assert read_manifest(tmp_path / release.assignment.manifest.sha256).release == 2
