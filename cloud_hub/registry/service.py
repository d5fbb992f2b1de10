"""Upload and submit releases, and read them back."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.errors import ProtocolError
from agent.protocol.ids import MANIFEST_FILENAME, Digest, UnixTime, is_name, release_path
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import Manifest, decode_manifest
from cloud_hub.access.service import Caller, Role
from cloud_hub.approvals.drafts import DraftKind, close_draft, get_draft, open_draft, require_none_open
from cloud_hub.audit.service import record
from cloud_hub.config import ModelSigningSettings
from cloud_hub.errors import ConflictError, EvidenceError, ForbiddenError, InputError, NotFoundError
from cloud_hub.registry.artifacts import ArtifactStore, StoredArtifact
from cloud_hub.registry.evidence import check_release
from cloud_hub.registry.model_signing import check_model_signature
from cloud_hub.registry.models import Release, ReleaseFile
from cloud_hub.registry.patches import MadePatch
from cloud_hub.signing.repository import Repository


class ReleaseState(StrEnum):
    """draft → submitted → published → withdrawn; what is not yet published may be withdrawn too.

    Withdrawing a *published* release removes its targets from the role, which needs the approvers' signatures.
    """

    DRAFT = "draft"
    SUBMITTED = "submitted"
    PUBLISHED = "published"
    WITHDRAWN = "withdrawn"


class FileView(Struct, frozen=True, kw_only=True):
    filename: str
    sha256: str
    size: int


class ReleaseView(Struct, frozen=True, kw_only=True):
    model: str
    release: int
    state: ReleaseState
    author: str
    created: UnixTime
    submitted: UnixTime | None
    published: UnixTime | None
    role_version: int | None
    model_signer: str | None
    """Who signed the files as an OpenSSF model signature, where one was given and held."""


def put_file(
    session: Session,
    model: str,
    release: int,
    filename: str,
    stored: StoredArtifact,
    caller: Caller,
    now: float,
) -> FileView:
    """Note one uploaded file of a draft; the first one opens the draft.

    Raises:
        ForbiddenError: the draft is another author's.
        ConflictError: the release is no draft any more.
    """
    if not is_name(model):
        raise InputError(f"model {model!r}: not a name")
    row = session.get(Release, (model, release))
    if row is None:
        row = Release(
            model=model, release=release, state=ReleaseState.DRAFT.value, author=caller.name, created=now
        )
        session.add(row)
        session.flush()
        record(session, now=now, actor=caller.name, action="draft", subject=f"{model} {release}")
    _own_draft(row, caller)
    file = session.get(ReleaseFile, (model, release, filename))
    if file is None:
        file = ReleaseFile(model=model, release=release, filename=filename)
        session.add(file)
    file.sha256, file.size = stored.sha256, stored.size
    return FileView(filename=filename, sha256=stored.sha256, size=stored.size)


def put_model_signature(
    session: Session, model: str, release: int, stored: StoredArtifact, caller: Caller
) -> None:
    """Note the OpenSSF model signature of a draft; it is checked when the release is submitted.

    Raises:
        NotFoundError: no file of the release was uploaded yet.
        ForbiddenError, ConflictError: as for :func:`put_file`.
    """
    row = get_release(session, model, release)
    _own_draft(row, caller)
    row.model_signature = stored.sha256


def submit(
    session: Session,
    model: str,
    release: int,
    *,
    artifacts: ArtifactStore,
    repository: Repository,
    draft_days: int,
    model_signing: ModelSigningSettings,
    patches: Sequence[MadePatch],
    caller: Caller,
    now: float,
) -> ReleaseView:
    """Check a draft's manifest and evidence, and open the model's TUF draft for the approvers, ``patches`` in it.

    Raises:
        EvidenceError: something is missing or speaks against it.
        ConflictError: it is no draft, or another release of the model waits for approval.
        SigningError: see :meth:`Repository.make_draft`.
    """
    row = get_release(session, model, release)
    _own_draft(row, caller)
    require_none_open(session, model)
    files = {
        file.filename: StoredArtifact(sha256=Digest(file.sha256), size=file.size)
        for file in release_files(session, model, release)
    }
    _check(model, release, files, artifacts)
    row.model_signer = _check_signature(row, files, artifacts, model_signing)
    files |= _add_patches(session, row, files, patches)
    targets = {release_path(model, release, name): (file.size, file.sha256) for name, file in files.items()}
    expires = datetime.fromtimestamp(now, UTC) + timedelta(days=draft_days)
    draft = repository.make_draft(model, targets, expires)
    row.state, row.submitted = ReleaseState.SUBMITTED.value, now
    row.role_version = repository.versions()[model] + 1
    open_draft(
        session,
        model=model,
        kind=DraftKind.RELEASE,
        release=release,
        document=draft,
        role_version=row.role_version,
        by=caller.name,
        now=now,
    )
    record(
        session,
        now=now,
        actor=caller.name,
        action="submit",
        subject=f"{model} {release}",
        manifest_sha256=files[MANIFEST_FILENAME].sha256,
        model_signer=row.model_signer,
    )
    return view(row)


def _add_patches(
    session: Session, row: Release, files: dict[str, StoredArtifact], patches: Sequence[MadePatch]
) -> dict[str, StoredArtifact]:
    """Note the patches as files of the release, but for those of a file that was uploaded anew since they were made."""
    here = {file.sha256 for file in files.values()}
    fitting = [patch for patch in patches if patch.target in here]
    for patch in fitting:
        stored = patch.stored
        session.add(
            ReleaseFile(
                model=row.model,
                release=row.release,
                filename=patch.filename,
                sha256=stored.sha256,
                size=stored.size,
            )
        )
    return {patch.filename: patch.stored for patch in fitting}


def _check_signature(
    row: Release,
    files: dict[str, StoredArtifact],
    artifacts: ArtifactStore,
    model_signing: ModelSigningSettings,
) -> str | None:
    read = _reader(artifacts)
    signature = None if row.model_signature is None else read(row.model_signature)
    return check_model_signature(signature, files, read, model_signing)


def _reader(artifacts: ArtifactStore) -> Callable[[str], bytes]:
    def read(digest: str) -> bytes:
        data = artifacts.read(digest)
        if data is None:
            raise EvidenceError(f"artifact {digest}: its bytes are gone; upload it again")
        return data

    return read


def _check(model: str, release: int, files: dict[str, StoredArtifact], artifacts: ArtifactStore) -> None:
    read = _reader(artifacts)
    if MANIFEST_FILENAME not in files:
        raise EvidenceError(f"{MANIFEST_FILENAME} was not uploaded")
    if files[MANIFEST_FILENAME].size > MAX_MANIFEST_BYTES:
        raise EvidenceError(f"{MANIFEST_FILENAME}: at most {MAX_MANIFEST_BYTES} bytes are allowed")
    try:
        manifest = decode_manifest(read(files[MANIFEST_FILENAME].sha256))
    except ProtocolError as error:
        raise EvidenceError(f"{MANIFEST_FILENAME}: {error}") from error
    if (manifest.model, manifest.release) != (model, release):
        raise EvidenceError(
            f"{MANIFEST_FILENAME}: it is the manifest of {manifest.model} {manifest.release}, not {model} {release}"
        )
    check_release(manifest, files, read)


def withdraw(session: Session, row: Release, caller: Caller, now: float) -> ReleaseView:
    """Take back a release that is not published.

    Raises:
        ConflictError: it is withdrawn already.
        ForbiddenError: it is another author's.
    """
    name = f"{row.model} {row.release}"
    if row.state not in (ReleaseState.DRAFT, ReleaseState.SUBMITTED):
        raise ConflictError(f"{name} is {row.state}")
    if caller.role is not Role.ADMIN and caller.name != row.author:
        raise ForbiddenError(f"{name} is {row.author}'s; only its author or an admin withdraws it")
    if row.state == ReleaseState.SUBMITTED:
        close_draft(session, get_draft(session, row.model))
    row.state = ReleaseState.WITHDRAWN.value
    record(session, now=now, actor=caller.name, action="withdraw", subject=name)
    return view(row)


def _own_draft(row: Release, caller: Caller) -> None:
    if row.state != ReleaseState.DRAFT:
        raise ConflictError(
            f"{row.model} {row.release} is {row.state}; its files never change: number a new release"
        )
    if caller.role is not Role.ADMIN and caller.name != row.author:
        raise ForbiddenError(f"{row.model} {row.release} is a draft of {row.author}")


def get_release(session: Session, model: str, release: int) -> Release:
    """Raises NotFoundError."""
    row = session.get(Release, (model, release))
    if row is None:
        raise NotFoundError(f"there is no release {model} {release}")
    return row


def release_files(session: Session, model: str, release: int) -> list[ReleaseFile]:
    query = select(ReleaseFile).where(ReleaseFile.model == model, ReleaseFile.release == release)
    return list(session.scalars(query.order_by(ReleaseFile.filename)))


def all_releases(session: Session) -> list[Release]:
    return list(session.scalars(select(Release).order_by(Release.model, Release.release.desc())))


def stored_manifest(session: Session, model: str, release: int, artifacts: ArtifactStore) -> Manifest | None:
    """The manifest that was uploaded for a release; None where there is none that can be read."""
    file = session.get(ReleaseFile, (model, release, MANIFEST_FILENAME))
    data = artifacts.read(file.sha256) if file else None
    try:
        return decode_manifest(data) if data else None
    except ProtocolError:
        return None


def view(row: Release) -> ReleaseView:
    return ReleaseView(
        model=row.model,
        release=row.release,
        state=ReleaseState(row.state),
        author=row.author,
        created=row.created,
        submitted=row.submitted,
        published=row.published,
        role_version=row.role_version,
        model_signer=row.model_signer,
    )
