"""Make a bundle: what devices are asked to run now, with everything that proves it and everything it needs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.bundle import (
    FILE_SUFFIX,
    LENGTH_BYTES,
    MAGIC,
    MAX_DEVICES,
    MAX_FILES,
    MAX_INDEX_BYTES,
    PREFIX_BYTES,
    BundleDevice,
    BundleFile,
    BundleIndex,
    BundleOrder,
)
from agent.protocol.codec import encode_json
from agent.protocol.ids import MANIFEST_FILENAME, Name, Version, release_path
from agent.protocol.manifest import Manifest
from cloud_hub.audit.service import record
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.devices.service import get_device
from cloud_hub.errors import ConflictError, InputError
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.service import release_files, stored_manifest
from cloud_hub.rollouts.documents import Signing, sign_document
from cloud_hub.rollouts.models import DesiredAssignment, DesiredDocument, RolloutDevice
from cloud_hub.rollouts.views import get_rollout
from cloud_hub.signing.repository import Repository

CHUNK_BYTES = 1024 * 1024
SHOWN = 5
"""Names that an error lists before it says how many more there are."""


class BundleWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/bundles``: either devices, or a rollout."""

    devices: tuple[Name, ...] = ()
    rollout: int | None = None
    """Every device to which this rollout has given its release, and that is still asked to run it."""
    releases: dict[Name, Version] = {}
    """Model → the release that each device must be asked to run; a check, it assigns nothing."""
    complete: bool = False
    """Also what the devices have committed already, as for one whose disk was lost."""


class BundleMaker(Struct, frozen=True, kw_only=True):
    """What making a bundle takes of the hub."""

    name: str
    repository: Repository
    artifacts: ArtifactStore
    signing: Signing
    days: int


@dataclass(frozen=True)
class Bundle:
    """A bundle that can be read from its beginning to its end, once or again."""

    index: BundleIndex
    first: str
    """What in it expires first."""
    envelope: bytes
    held: dict[str, bytes]
    """SHA-256 → bytes of metadata and documents."""
    artifacts: ArtifactStore

    @property
    def size(self) -> int:
        return PREFIX_BYTES + len(self.envelope) + self.index.file_bytes

    @property
    def filename(self) -> str:
        """For instance ``camera-1-2026-11-28.edgeward``."""
        names = self.index.devices
        what = names[0].device if len(names) == 1 else f"{len(names)}-devices"
        return f"{what}-{datetime.fromtimestamp(self.index.created, UTC):%Y-%m-%d}{FILE_SUFFIX}"

    def chunks(self) -> Iterator[bytes]:
        """All bytes, in pieces of at most a mebibyte or one metadata file."""
        yield MAGIC + len(self.envelope).to_bytes(LENGTH_BYTES, "big") + self.envelope
        for file in self.index.files:
            if file.sha256 in self.held:
                yield self.held[file.sha256]
                continue
            for offset in range(0, file.size, CHUNK_BYTES):
                length = min(CHUNK_BYTES, file.size - offset)
                yield self.artifacts.read_range(file.sha256, offset, length)


def export(session: Session, wish: BundleWish, maker: BundleMaker, *, by: str, now: float) -> Bundle:
    """Sign each device's document anew, and gather what it needs. Call it on the writer thread, publish the devices after.

    Raises:
        InputError: neither devices nor a rollout, or both; too many devices; a device that has no use for it.
        NotFoundError: no such device or rollout.
        ConflictError: a device is asked to run something else, or nothing; a file is missing here.
    """
    names = _names(session, wish)
    rows = {name: _assignments(session, name, wish) for name in names}
    wanted = [row for name in names for row in rows[name] if wish.complete or not _committed(session, row)]
    if not wanted:
        raise ConflictError(
            f"{_listed(names)}: everything asked for is committed already; to bring it all the same, ask for a "
            "complete bundle (--complete)"
        )
    artifacts = _artifacts(session, wanted, maker)
    signing = msgspec.structs.replace(maker.signing, days=max(maker.signing.days, maker.days))
    for name in names:
        sign_document(session, name, signing, now)
    documents = {name: session.get_one(DesiredDocument, name) for name in names}
    models = sorted({row.model for each in rows.values() for row in each})
    metadata = maker.repository.export(models, timedelta(days=maker.days))
    small = [("metadata", name, data) for name, data in metadata.files.items()]
    small += [("director", name, documents[name].document.encode()) for name in names]
    ends = {document.expires: f"the document of {name}" for name, document in documents.items()}
    ends[metadata.expires.timestamp()] = f"the role {metadata.first}"
    index = BundleIndex(
        hub=maker.name,
        created=now,
        expires=min(ends),
        created_by=by,
        devices=tuple(_device(session, name, rows[name]) for name in names),
        files=(*(_file(*each) for each in small), *artifacts),
    )
    _check_count("files", len(index.files), MAX_FILES)
    payload = encode_json(index, limit=MAX_INDEX_BYTES)
    bundle = Bundle(
        index=index,
        first=ends[min(ends)],
        envelope=maker.signing.director.seal_bundle(payload),
        held={sha256(data).hexdigest(): data for _kind, _name, data in small},
        artifacts=maker.artifacts,
    )
    record(
        session,
        now=now,
        actor=by,
        action="bundle-export",
        subject=_listed(names, len(names)),
        bundle=sha256(payload).hexdigest(),
        expires=index.expires,
        bytes=bundle.size,
        releases=", ".join(sorted({f"{row.model} {row.release}" for row in wanted})),
    )
    return bundle


def _names(session: Session, wish: BundleWish) -> tuple[str, ...]:
    if bool(wish.devices) is (wish.rollout is not None):
        raise InputError("a bundle is for devices or for a rollout: name one of the two")
    if wish.rollout is None:
        names = tuple(dict.fromkeys(wish.devices))
    else:
        row = get_rollout(session, wish.rollout)
        query = (
            select(RolloutDevice.device)
            .join(DesiredAssignment, DesiredAssignment.deployment == RolloutDevice.deployment)
            .where(RolloutDevice.rollout == row.id, DesiredAssignment.device == RolloutDevice.device)
        )
        names = tuple(sorted(session.scalars(query)))
        if not names:
            raise ConflictError(
                f"rollout {row.id} is {row.status}: no device is asked to run its release now"
            )
    _check_count("devices", len(names), MAX_DEVICES)
    revoked = [name for name in names if get_device(session, name).revoked is not None]
    if revoked:
        raise ConflictError(
            f"devices: the identity of {', '.join(revoked)} was revoked; enrol it again first"
        )
    return names


def _assignments(session: Session, device: str, wish: BundleWish) -> Sequence[DesiredAssignment]:
    get_device(session, device)
    query = select(DesiredAssignment).where(DesiredAssignment.device == device)
    rows = session.scalars(query.order_by(DesiredAssignment.model)).all()
    if not rows:
        raise ConflictError(
            f"{device} is asked to run nothing yet; start a rollout: "
            f"edgeward-hub rollout start MODEL RELEASE --device {device}"
        )
    asked = {row.model: row.release for row in rows}
    for model, release in wish.releases.items():
        if asked.get(model) != release:
            now = f"{model} {asked[model]}" if model in asked else f"no {model}"
            raise ConflictError(
                f"{device} is asked to run {now}, not {model} {release}; start a rollout: "
                f"edgeward-hub rollout start {model} {release} --device {device}"
            )
    return rows


def _committed(session: Session, row: DesiredAssignment) -> bool:
    committed = session.get(CommittedRelease, (row.device, row.model))
    return committed is not None and committed.deployment == row.deployment


def _device(session: Session, name: str, rows: Iterable[DesiredAssignment]) -> BundleDevice:
    orders = tuple(
        BundleOrder(model=row.model, release=row.release, deployment=row.deployment) for row in rows
    )
    return BundleDevice(device=name, hardware_class=get_device(session, name).hardware_class, orders=orders)


def _artifacts(
    session: Session, rows: Iterable[DesiredAssignment], maker: BundleMaker
) -> tuple[BundleFile, ...]:
    """Every file that one of the devices may need, once."""
    files: dict[str, BundleFile] = {}
    for row in rows:
        manifest = stored_manifest(session, row.model, row.release, maker.artifacts)
        if manifest is None:
            raise ConflictError(f"{row.model} {row.release}: the hub has lost its manifest")
        hardware_class = get_device(session, row.device).hardware_class
        if hardware_class not in manifest.budgets:
            raise ConflictError(
                f"{row.model} {row.release} has no budget for {hardware_class}: {row.device} would refuse it"
            )
        needed = _needed(manifest)
        for file in release_files(session, row.model, row.release):
            if file.filename not in needed or file.sha256 in files:
                continue
            if maker.artifacts.size(file.sha256) != file.size:
                raise ConflictError(
                    f"{row.model} {row.release}: {file.filename} is missing in the hub's store, or cut off"
                )
            path = release_path(row.model, row.release, file.filename)
            files[file.sha256] = BundleFile(kind="artifact", name=path, sha256=file.sha256, size=file.size)
    return tuple(files.values())


def _needed(manifest: Manifest) -> frozenset[str]:
    """Which variant it is, the device decides: by its runtimes, and by what its probe refuses."""
    needed = [variant.artifact for variant in manifest.variants]
    needed += [manifest.golden.artifact, manifest.drift_reference]
    return frozenset({MANIFEST_FILENAME, *(ref.filename for ref in needed)})


def _file(kind: str, name: str, data: bytes) -> BundleFile:
    fields = {"kind": kind, "name": name, "sha256": sha256(data).hexdigest(), "size": len(data)}
    return msgspec.convert(fields, BundleFile)


def _check_count(what: str, count: int, most: int) -> None:
    if count > most:
        raise InputError(f"{what}: {count} in one bundle, at most {most} are allowed; make several")


def _listed(names: Sequence[str], most: int = SHOWN) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
