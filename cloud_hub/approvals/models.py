"""Tables of approvals."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class Approval(Base):
    """One approver's signature on the version of a model's role that adds a release."""

    __tablename__ = "approvals"

    model: Mapped[str] = mapped_column(primary_key=True)
    role_version: Mapped[int] = mapped_column(primary_key=True)
    keyid: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int]
    approver: Mapped[str]
    """Name of the key, as the ceremony wrote it."""
    sent_by: Mapped[str]
    """Name of the token that brought it."""
    at: Mapped[float]
