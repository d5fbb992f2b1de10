"""Take approvers' signatures; publish when enough of them are there."""

from typing import Annotated

from msgspec import Meta, Struct
from securesystemslib.signer import Signature
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.ids import UnixTime, Version
from cloud_hub.access.service import Caller
from cloud_hub.approvals.drafts import DraftStore
from cloud_hub.approvals.models import Approval
from cloud_hub.audit.service import record
from cloud_hub.errors import ConflictError, ForbiddenError
from cloud_hub.registry.models import Release
from cloud_hub.registry.service import ReleaseState, submitted_release
from cloud_hub.signing.repository import Repository


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
    release: Version
    version: Version
    threshold: int
    signed_by: tuple[str, ...]
    published: bool


def add_signature(
    session: Session,
    model: str,
    offered: DraftSignature,
    *,
    repository: Repository,
    drafts: DraftStore,
    caller: Caller,
    now: float,
) -> DraftStatus:
    """Check one signature, keep it, and publish the release if it completes the threshold.

    Raises:
        ConflictError: the signature is for another version than the open draft's.
        ForbiddenError: the author of a release cannot approve it.
        SigningError: see :meth:`Repository.add_signature`.
    """
    draft = drafts.get(model)
    release = submitted_release(session, model)
    if offered.version != release.role_version:
        raise ConflictError(
            f"the open draft of {model} is version {release.role_version}, the signature is for {offered.version}"
        )
    approver = repository.approvers(model).get(offered.keyid, offered.keyid[:8])
    if release.author in (caller.name, approver):
        raise ForbiddenError(
            f"{release.author} is the author of {model} {release.release}; someone else must approve it"
        )
    signed = repository.add_signature(draft, Signature(offered.keyid, offered.sig))
    drafts.put(model, signed)
    _keep(session, release, offered, approver, caller, now)
    published = repository.threshold_met(signed)
    if published:
        _publish(session, release, signed, repository, now)
        drafts.remove(model)
    names = repository.approvers(model)
    return DraftStatus(
        model=model,
        release=release.release,
        version=offered.version,
        threshold=repository.threshold(model),
        signed_by=tuple(sorted(names[keyid] for keyid in repository.signers(signed))),
        published=published,
    )


def _keep(
    session: Session, release: Release, offered: DraftSignature, approver: str, caller: Caller, now: float
) -> None:
    key = (release.model, offered.version, offered.keyid)
    if session.get(Approval, key) is None:
        session.add(
            Approval(
                model=release.model,
                role_version=offered.version,
                keyid=offered.keyid,
                release=release.release,
                approver=approver,
                sent_by=caller.name,
                at=now,
            )
        )
    record(
        session,
        now=now,
        actor=caller.name,
        action="approve",
        subject=f"{release.model} {release.release}",
        approver=approver,
        keyid=offered.keyid,
        signature=offered.sig,
        role_version=offered.version,
    )


def _publish(session: Session, release: Release, draft: bytes, repository: Repository, now: float) -> None:
    repository.publish(release.model, draft)
    release.state = ReleaseState.PUBLISHED.value
    release.published = now
    record(
        session,
        now=now,
        actor="hub",
        action="publish",
        subject=f"{release.model} {release.release}",
        role_version=release.role_version,
    )


def signatures(session: Session, model: str, release: int) -> tuple[SignatureView, ...]:
    """Who signed a release, in order of time."""
    query = (
        select(Approval)
        .where(Approval.model == model, Approval.release == release)
        .order_by(Approval.at, Approval.approver)
    )
    return tuple(
        SignatureView(approver=row.approver, keyid=row.keyid, at=row.at) for row in session.scalars(query)
    )
