"""Open drafts, take approvers' signatures, publish when enough of them are there."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct
from securesystemslib.signer import Signature
from sqlalchemy import delete, select
from sqlalchemy.orm import Session
from tuf.api.metadata import Metadata, Targets

from agent.protocol.ids import UnixTime, Version, release_path
from cloud_hub.access.service import Caller
from cloud_hub.approvals.drafts import DraftKind, all_drafts, close_draft, get_draft, open_draft, title
from cloud_hub.approvals.models import Approval, OpenDraft
from cloud_hub.audit.service import record
from cloud_hub.errors import ConflictError, ForbiddenError
from cloud_hub.registry.models import Release
from cloud_hub.registry.service import ReleaseState
from cloud_hub.rollouts.documents import Signing
from cloud_hub.rollouts.service import stop_rollouts
from cloud_hub.signing.repository import Repository


class Drafting(Struct, frozen=True, kw_only=True):
    """What drafts are made and published with."""

    repository: Repository
    days: int
    """Life of a model's role."""
    signing: Signing


class DraftSignature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/models/{model}/draft/signatures``."""

    keyid: Annotated[str, Meta(min_length=1, max_length=128)]
    sig: Annotated[str, Meta(pattern=r"^[0-9a-f]{2,2048}$")]
    """Hexadecimal."""
    version: Version
    """Version of the role that was signed."""


class SignatureView(Struct, frozen=True, kw_only=True):
    approver: str
    keyid: str
    at: UnixTime


class DraftStatus(Struct, frozen=True, kw_only=True):
    """Where an approval stands after a signature."""

    model: str
    kind: DraftKind
    release: Version | None
    """None: a renewal."""
    version: Version
    threshold: int
    signed_by: tuple[str, ...]
    published: bool


def propose(
    session: Session,
    drafting: Drafting,
    model: str,
    kind: DraftKind,
    release: int | None,
    caller: Caller,
    now: float,
) -> OpenDraft:
    """Ask the approvers to withdraw a published release, or to renew a model's role; the same wish twice is one.

    Raises:
        ConflictError: another draft of the model is open.
        DraftError: the release is not published.
        RepositoryStateError: there is no such model.
    """
    settle(session, drafting, now)
    row = session.get(OpenDraft, model)
    if row is not None and (row.kind, row.release) == (kind.value, release):
        return row
    document = _make(drafting, model, kind, release, None, now)
    version = drafting.repository.versions()[model] + 1
    row = open_draft(
        session,
        model=model,
        kind=kind,
        release=release,
        document=document,
        role_version=version,
        by=caller.name,
        now=now,
    )
    record(session, now=now, actor=caller.name, action=f"propose-{kind.value}", subject=_subject(row))
    return row


def settle(session: Session, drafting: Drafting, now: float) -> None:
    """Finish publications that a crash cut short; make drafts anew whose base is not the published version any more.

    Signatures are over one version of the role: on another base they are void, and the approvers sign again.
    """
    repository = drafting.repository
    for row in all_drafts(session):
        if _is_out(row, repository):
            _finish(session, row, drafting, now)
            continue
        expired = _read(row).is_expired(datetime.fromtimestamp(now, UTC))
        published = repository.versions()[row.model]
        if row.role_version == published + 1 and not expired:
            continue
        why = "it has expired" if expired else f"version {published} has been published since"
        old = row.role_version
        row.document = _make(drafting, row.model, DraftKind(row.kind), row.release, row, now)
        row.role_version = published + 1
        release = _release(session, row)
        if release is not None and row.kind == DraftKind.RELEASE:
            release.role_version = row.role_version
        session.execute(delete(Approval).where(Approval.model == row.model, Approval.role_version == old))
        record(
            session,
            now=now,
            actor="hub",
            action="draft-void",
            subject=_subject(row),
            why=f"{why}: the signatures on version {old} are void",
            role_version=row.role_version,
        )


def add_signature(
    session: Session, model: str, offered: DraftSignature, *, drafting: Drafting, caller: Caller, now: float
) -> DraftStatus:
    """Check one signature, keep it, and publish the draft if it completes the threshold.

    Raises:
        ConflictError: the signature is for another version than the open draft's.
        ForbiddenError: the author of a release cannot approve it.
        SigningError: see :meth:`Repository.add_signature`.
    """
    repository = drafting.repository
    settle(session, drafting, now)
    row = get_draft(session, model)
    if offered.version != row.role_version:
        raise ConflictError(
            f"the open draft of {model} is version {row.role_version}, the signature is for {offered.version}: "
            "the draft was made anew on what is published now; look at it and sign again"
        )
    approver = repository.approvers(model).get(offered.keyid, offered.keyid[:8])
    _not_the_author(session, row, caller, approver)
    row.document = repository.add_signature(row.document, Signature(offered.keyid, offered.sig))
    _keep(session, row, offered, approver, caller, now)
    names = repository.approvers(model)
    status = DraftStatus(
        model=model,
        kind=DraftKind(row.kind),
        release=row.release,
        version=offered.version,
        threshold=repository.threshold(model),
        signed_by=tuple(sorted(names[keyid] for keyid in repository.signers(row.document))),
        published=repository.threshold_met(row.document),
    )
    if status.published:
        repository.publish(model, row.document)
        _finish(session, row, drafting, now)
    return status


def _not_the_author(session: Session, row: OpenDraft, caller: Caller, approver: str) -> None:
    release = _release(session, row)
    if row.kind == DraftKind.RELEASE and release is not None and release.author in (caller.name, approver):
        raise ForbiddenError(
            f"{release.author} is the author of {row.model} {row.release}; someone else must approve it"
        )


def _make(
    drafting: Drafting, model: str, kind: DraftKind, release: int | None, old: OpenDraft | None, now: float
) -> bytes:
    expires = datetime.fromtimestamp(now, UTC) + timedelta(days=drafting.days)
    if kind is DraftKind.WITHDRAWAL and release is not None:
        return drafting.repository.make_withdrawal(model, release, expires)
    targets = {}
    if kind is DraftKind.RELEASE and old is not None and release is not None:
        prefix = release_path(model, release, "")
        targets = {
            path: (target.length, target.hashes["sha256"])
            for path, target in _read(old).targets.items()
            if path.startswith(prefix)
        }
    return drafting.repository.make_draft(model, targets, expires)


def _is_out(row: OpenDraft, repository: Repository) -> bool:
    """Whether what the draft does is published."""
    if row.kind == DraftKind.RENEWAL:
        published = Metadata[Targets].from_bytes(repository.published(row.model))
        return published.signed_bytes == Metadata[Targets].from_bytes(row.document).signed_bytes
    prefix = release_path(row.model, row.release or 0, "")
    there = any(path.startswith(prefix) for path in repository.targets(row.model))
    return there is (row.kind == DraftKind.RELEASE)


def _finish(session: Session, row: OpenDraft, drafting: Drafting, now: float) -> None:
    """The draft is published: say so in the tables and the log, and stop what must not go on."""
    subject, kind, release = _subject(row), DraftKind(row.kind), _release(session, row)
    actions = {DraftKind.RELEASE: "publish", DraftKind.WITHDRAWAL: "withdraw", DraftKind.RENEWAL: "renew"}
    if release is not None and kind is DraftKind.RELEASE:
        release.state, release.published = ReleaseState.PUBLISHED.value, now
    elif release is not None:
        release.state = ReleaseState.WITHDRAWN.value
    record(
        session, now=now, actor="hub", action=actions[kind], subject=subject, role_version=row.role_version
    )
    close_draft(session, row)
    if release is not None and kind is DraftKind.WITHDRAWAL:
        why = f"the approvers have withdrawn {release.model} {release.release}"
        stop_rollouts(session, release.model, release.release, why=why, signing=drafting.signing, now=now)


def _release(session: Session, row: OpenDraft) -> Release | None:
    return None if row.release is None else session.get(Release, (row.model, row.release))


def _read(row: OpenDraft) -> Targets:
    return Metadata[Targets].from_bytes(row.document).signed


def _subject(row: OpenDraft) -> str:
    return row.model if row.release is None else f"{row.model} {row.release}"


def _keep(
    session: Session, row: OpenDraft, offered: DraftSignature, approver: str, caller: Caller, now: float
) -> None:
    if session.get(Approval, (row.model, offered.version, offered.keyid)) is None:
        session.add(
            Approval(
                model=row.model,
                role_version=offered.version,
                keyid=offered.keyid,
                kind=row.kind,
                release=row.release,
                approver=approver,
                sent_by=caller.name,
                at=now,
            )
        )
        session.flush()
    record(
        session,
        now=now,
        actor=caller.name,
        action="approve",
        subject=_subject(row),
        what=title(row),
        approver=approver,
        keyid=offered.keyid,
        signature=offered.sig,
        role_version=offered.version,
    )


def signatures(
    session: Session, model: str, release: int, kind: DraftKind = DraftKind.RELEASE
) -> tuple[SignatureView, ...]:
    """Who signed a release (or its withdrawal), in order of time."""
    query = (
        select(Approval)
        .where(Approval.model == model, Approval.release == release, Approval.kind == kind.value)
        .order_by(Approval.at, Approval.approver)
    )
    return tuple(
        SignatureView(approver=row.approver, keyid=row.keyid, at=row.at) for row in session.scalars(query)
    )
