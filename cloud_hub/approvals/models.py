"""Tables of approvals."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class OpenDraft(Base):
    """The next version of a model's role, while approvers sign it; there is at most one a model."""

    __tablename__ = "open_drafts"

    model: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """:class:`cloud_hub.approvals.drafts.DraftKind`."""
    release: Mapped[int | None]
    """The one that is added or withdrawn; None: a renewal."""
    document: Mapped[bytes]
    """The TUF metadata with the signatures so far."""
    role_version: Mapped[int]
    """Its version: one after the published one, or the draft is void."""
    opened: Mapped[float]
    opened_by: Mapped[str]


class Approval(Base):
    """One approver's signature on a version of a model's role."""

    __tablename__ = "approvals"

    model: Mapped[str] = mapped_column(primary_key=True)
    role_version: Mapped[int] = mapped_column(primary_key=True)
    keyid: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """What was signed: :class:`cloud_hub.approvals.drafts.DraftKind`."""
    release: Mapped[int | None]
    """None: a renewal."""
    approver: Mapped[str]
    """Name of the key, as the ceremony wrote it."""
    sent_by: Mapped[str]
    """Name of the token that brought it."""
    at: Mapped[float]
