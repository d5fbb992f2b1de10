"""The table of webhooks: the queue, and for a while what became of it."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class WebhookDelivery(Base):
    """One event for one address."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index("webhook_deliveries_due", "done", "due"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """The receiver keeps it, and ignores what it has seen."""
    url: Mapped[str] = mapped_column(primary_key=True)
    event: Mapped[str]
    request: Mapped[int | None]
    """The retraining request that the answer may acknowledge."""
    created: Mapped[float]
    body: Mapped[bytes]
    attempts: Mapped[int]
    due: Mapped[float]
    """When it is to be tried next."""
    done: Mapped[float | None]
    """When it was taken, or given up."""
    outcome: Mapped[str]
    """``pending``, ``delivered``, ``given-up`` or ``dropped``."""
    status: Mapped[int | None]
    error: Mapped[str | None]
    """Why the last attempt failed."""
