"""Open drafts: one a model, which the table's key enforces."""

from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud_hub.approvals.models import OpenDraft
from cloud_hub.errors import ConflictError, NotFoundError


class DraftKind(StrEnum):
    """What approvers are asked to sign."""

    RELEASE = "release"
    """One more release."""
    WITHDRAWAL = "withdrawal"
    """One release less."""
    RENEWAL = "renewal"
    """The same releases, for longer."""


def open_draft(
    session: Session,
    *,
    model: str,
    kind: DraftKind,
    release: int | None,
    document: bytes,
    role_version: int,
    by: str,
    now: float,
) -> OpenDraft:
    """Open a model's draft.

    Raises:
        ConflictError: another one is open.
    """
    require_none_open(session, model)
    row = OpenDraft(
        model=model,
        kind=kind.value,
        release=release,
        document=document,
        role_version=role_version,
        opened=now,
        opened_by=by,
    )
    session.add(row)
    session.flush()
    return row


def require_none_open(session: Session, model: str) -> None:
    """Raises ConflictError: a draft of the model is open."""
    row = session.get(OpenDraft, model)
    if row is not None:
        raise ConflictError(f"{title(row)} waits for approval; one draft of a model is open at a time")


def get_draft(session: Session, model: str) -> OpenDraft:
    """Raises NotFoundError: none is open."""
    row = session.get(OpenDraft, model)
    if row is None:
        raise NotFoundError(f"model {model}: no draft is open; submit a release first")
    return row


def all_drafts(session: Session) -> list[OpenDraft]:
    return list(session.scalars(select(OpenDraft).order_by(OpenDraft.model)))


def close_draft(session: Session, row: OpenDraft) -> None:
    session.delete(row)
    session.flush()


def title(row: OpenDraft) -> str:
    """The draft in words."""
    if row.kind == DraftKind.RENEWAL:
        return f"the renewal of {row.model}"
    name = f"{row.model} {row.release}"
    return name if row.kind == DraftKind.RELEASE else f"the withdrawal of {name}"
