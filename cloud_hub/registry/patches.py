"""Patches of a new release: made from the newest published ones, kept where they save enough.

They are made in a process of their own within :data:`BUILD_SECONDS`, so that the hub answers meanwhile; what is not ready by then
is left out: devices fetch the whole file instead.
"""

import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.delta.jobs import Job
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import MANIFEST_FILENAME, Digest
from agent.protocol.manifest import ArtifactRef, Manifest, decode_manifest
from agent.protocol.patches import PatchMethod, patch_name
from cloud_hub.database import Database
from cloud_hub.registry.artifacts import ArtifactStore, StoredArtifact
from cloud_hub.registry.models import Release, ReleaseFile
from cloud_hub.signing.errors import SigningError
from cloud_hub.signing.repository import Repository

log = logging.getLogger(__name__)

BASE_RELEASES = 3
"""Published releases, newest first, that patches are made from: a device that missed more fetches the file compressed."""
SMALLEST_BYTES = 4096
"""A file below it is no use to patch: asking for a block costs as much."""
WORTH = 0.9
"""A patch is kept where it is at most this share of what would travel without it: each one is a target for ever."""
BUILD_SECONDS = 60.0


class Pair(Struct, frozen=True, kw_only=True):
    """A file of the new release, and one that a device may have in its place; None: any device."""

    target: ArtifactRef
    base: ArtifactRef | None


class MadePatch(Struct, frozen=True, kw_only=True):
    """A patch in the artifact store."""

    filename: str
    stored: StoredArtifact
    target: Digest
    """What it makes."""


def pairs(manifest: Manifest, bases: Sequence[Manifest]) -> tuple[Pair, ...]:
    """What patches are tried for: files that devices fetch, each from nothing and from the same file of each base."""
    found: dict[tuple[str, str | None], Pair] = {}
    before = [_device_files(base) for base in bases]
    for role, target in _device_files(manifest).items():
        if target.size < SMALLEST_BYTES:
            continue
        for base in (None, *(files[role] for files in before if role in files)):
            if base is None:
                found[target.filename, None] = Pair(target=target, base=None)
            elif base.sha256 != target.sha256:
                found.setdefault((target.filename, base.sha256), Pair(target=target, base=base))
    return tuple(found.values())


def _device_files(manifest: Manifest) -> dict[str, ArtifactRef]:
    """By what they are for, whatever they are called in a release."""
    return {
        **{f"variant {variant.name}": variant.artifact for variant in manifest.variants},
        "golden": manifest.golden.artifact,
        "drift reference": manifest.drift_reference,
    }


def build(
    database: Database, repository: Repository, artifacts: ArtifactStore, model: str, release: int
) -> tuple[MadePatch, ...]:
    """Make, compare and store the patches of a draft; none where it can't be submitted: that says why."""
    try:
        approved = {digest for _, digest in repository.targets(model).values()}
    except SigningError:
        return ()
    manifest, *bases = database.read(lambda session: _manifests(session, model, release, artifacts))
    if manifest is None:
        return ()
    wanted = pairs(manifest, [base for base in bases if base is not None and _approved(base, approved)])
    if not wanted:
        return ()
    with tempfile.TemporaryDirectory(prefix="edgeward-patches-") as folder:
        return tuple(
            MadePatch(filename=name, stored=artifacts.put(data), target=Digest(pair.target.sha256))
            for pair, name, data in worth_keeping(wanted, _make(wanted, artifacts, Path(folder)))
        )


def _approved(manifest: Manifest, digests: set[str]) -> bool:
    return all(ref.sha256 in digests for ref in _device_files(manifest).values())


def _manifests(session: Session, model: str, release: int, artifacts: ArtifactStore) -> list[Manifest | None]:
    """The draft's, then those of the newest published releases."""
    published = select(Release.release).where(Release.model == model, Release.published.is_not(None))
    newest = session.scalars(published.order_by(Release.release.desc()).limit(BASE_RELEASES))
    found: list[Manifest | None] = []
    for number in (release, *newest):
        row = session.get(ReleaseFile, (model, number, MANIFEST_FILENAME))
        data = artifacts.read(row.sha256) if row is not None else None
        try:
            found.append(None if data is None else decode_manifest(data))
        except ProtocolError:
            found.append(None)
    return found


Made = dict[tuple[Pair, PatchMethod], bytes]


def _make(wanted: Sequence[Pair], artifacts: ArtifactStore, folder: Path) -> Made:
    """What could be made in time."""
    jobs = {
        (pair, method): Job(
            method=method,
            target=_file(pair.target, artifacts, folder),
            base=None if pair.base is None else _file(pair.base, artifacts, folder),
            out=str(folder / f"{number}.{method}"),
        )
        for number, pair in enumerate(wanted)
        for method in ((PatchMethod.ZSTD,) if pair.base is None else (PatchMethod.SUB8, PatchMethod.SUB32))
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.delta.jobs"],
            input=msgspec.json.encode(list(jobs.values())),
            capture_output=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            log.warning(
                "some patches were not made", extra={"why": done.stderr.decode(errors="replace")[-2000:]}
            )
    except subprocess.TimeoutExpired:
        log.warning("some patches were not made in time", extra={"seconds": BUILD_SECONDS})
    return {key: Path(job.out).read_bytes() for key, job in jobs.items() if Path(job.out).exists()}


def _file(ref: ArtifactRef, artifacts: ArtifactStore, folder: Path) -> str:
    """The artifact as a file; where its bytes are gone there is none, and the job says so."""
    path = folder / ref.sha256
    data = None if path.exists() else artifacts.read(ref.sha256)
    if data is not None:
        path.write_bytes(data)
    return str(path)


def worth_keeping(wanted: Sequence[Pair], made: Made) -> Iterator[tuple[Pair, str, bytes]]:
    """The smallest patch of each pair, where it saves enough: (pair, its file's name, its bytes)."""
    plain = {pair.target.filename: pair.target.size for pair in wanted}
    for pair in sorted(
        wanted, key=lambda pair: pair.base is not None
    ):  # whole files first: the others must beat them
        tried = [(len(data), method, data) for (of, method), data in made.items() if of == pair]
        if not tried:
            continue
        size, method, data = min(tried)
        name = patch_name(pair.target.filename, method, None if pair.base is None else pair.base.sha256)
        if name is None or size > WORTH * plain[pair.target.filename]:
            continue
        if pair.base is None:
            plain[pair.target.filename] = size
        yield pair, name, data
