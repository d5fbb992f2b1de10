"""Tables of retraining requests and notices."""

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class RetrainingPolicyRow(Base):
    """The policy of one model; a model without one has that of hub.toml."""

    __tablename__ = "retraining_policies"

    model: Mapped[str] = mapped_column(primary_key=True)
    policy: Mapped[bytes]
    """:class:`cloud_hub.retraining.policy.RetrainingPolicy`, JSON."""
    set_by: Mapped[str]
    set_at: Mapped[float]


class RetrainingWatch(Base):
    """How long the policy of a release has been broken, or kept again."""

    __tablename__ = "retraining_watches"

    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    cause: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float | None]
    """When it began to be broken; None: it is not."""
    calm: Mapped[float | None]
    """When it began to be well enough to end a request; None: it is not."""


class RetrainingRequest(Base):
    """A model should be retrained: one that is not closed for each model, release and cause."""

    __tablename__ = "retraining_requests"
    __table_args__ = (
        Index(
            "retraining_requests_open",
            "model",
            "release",
            "cause",
            unique=True,
            sqlite_where=text("closed IS NULL"),
            postgresql_where=text("closed IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str]
    release: Mapped[int]
    cause: Mapped[str]
    """``drift`` or ``accuracy``."""
    text: Mapped[str]
    opened: Mapped[float]
    updated: Mapped[float]
    """When evidence was last added."""
    acknowledged: Mapped[float | None]
    acknowledged_by: Mapped[str | None]
    note: Mapped[str | None]
    closed: Mapped[float | None]
    closed_by: Mapped[str | None]
    closed_reason: Mapped[str | None]


class RetrainingEvidence(Base):
    """Evidence of a request: written once, never changed; its digest stands in the audit log too."""

    __tablename__ = "retraining_evidence"

    request: Mapped[int] = mapped_column(ForeignKey("retraining_requests.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """From 1."""
    made: Mapped[float]
    sha256: Mapped[str]
    document: Mapped[bytes]
    """:class:`cloud_hub.retraining.evidence.Evidence`, JSON."""


class Notice(Base):
    """Something that should be looked at; one that has not ended for each kind and subject."""

    __tablename__ = "notices"
    __table_args__ = (
        Index(
            "notices_open",
            "kind",
            "subject",
            unique=True,
            sqlite_where=text("ended IS NULL"),
            postgresql_where=text("ended IS NULL"),
        ),
        Index("notices_by_time", "since"),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    kind: Mapped[str]
    subject: Mapped[str]
    """A device, or a device and what of it."""
    severity: Mapped[str]
    text: Mapped[str]
    to_do: Mapped[str]
    since: Mapped[float]
    updated: Mapped[float]
    ended: Mapped[float | None]
