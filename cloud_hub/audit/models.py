"""The table of the audit log."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class AuditRow(Base):
    """One entry; ``sha256`` is over the entry before it and this one's canonical JSON."""

    __tablename__ = "audit"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    time: Mapped[float]
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[str]
    """JSON object of strings."""
    previous: Mapped[str]
    sha256: Mapped[str]
