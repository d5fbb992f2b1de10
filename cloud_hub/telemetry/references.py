"""The drift reference of a release, as it was uploaded and signed; decoded once, because it is named by its content."""

from functools import lru_cache

from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.drift.reference import decode_reference
from agent.protocol.drift import DriftReference
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.manifest import decode_manifest
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.models import ReleaseFile

READY = 64


class _AbsentError(Exception):
    """Raised so that what may yet come is not remembered as absent."""


def reference_of(
    session: Session, model: str, release: int, artifacts: ArtifactStore
) -> DriftReference | str:
    """The release's reference, or why there is none."""
    digest = reference_digest(session, model, release, artifacts)
    absent = f"the hub does not hold the drift reference of {model} {release}"
    if digest is None:
        return absent
    try:
        return _reference(artifacts, digest)
    except _AbsentError:
        return absent
    except (ProtocolError, DriftError) as error:
        return str(error)


def reference_digest(session: Session, model: str, release: int, artifacts: ArtifactStore) -> str | None:
    """SHA-256 of the reference file, None where the release or its manifest is not here."""
    manifest = session.scalar(
        select(ReleaseFile.sha256).where(
            ReleaseFile.model == model,
            ReleaseFile.release == release,
            ReleaseFile.filename == MANIFEST_FILENAME,
        )
    )
    try:
        return None if manifest is None else _named_by(artifacts, manifest)
    except (_AbsentError, ProtocolError):
        return None


@lru_cache(maxsize=READY)
def _named_by(artifacts: ArtifactStore, manifest: str) -> str:
    data = artifacts.read(manifest)
    if data is None:
        raise _AbsentError
    return decode_manifest(data).drift_reference.sha256


@lru_cache(maxsize=READY)
def _reference(artifacts: ArtifactStore, digest: str) -> DriftReference:
    data = artifacts.read(digest)
    if data is None:
        raise _AbsentError
    return decode_reference(data)
