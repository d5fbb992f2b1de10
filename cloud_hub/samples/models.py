"""Tables of samples."""

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class SampleRequestRow(Base):
    """A request that an approver has signed and the hub's director too."""

    __tablename__ = "sample_requests"

    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    first_release: Mapped[int]
    last_release: Mapped[int]
    maximum: Mapped[int]
    purpose: Mapped[str]
    created: Mapped[float]
    expires: Mapped[float]
    approver: Mapped[str]
    keyid: Mapped[str]
    sent_by: Mapped[str]
    """Name of the token by which it came."""
    digest: Mapped[str]
    """SHA-256 of the signed bytes."""
    envelope: Mapped[bytes]
    closed: Mapped[float | None]
    """Since when it is offered to nobody any more, and nothing is taken for it."""


class SampleOffer(Base):
    """One device of a request, and what it has answered."""

    __tablename__ = "sample_offers"

    request: Mapped[str] = mapped_column(ForeignKey("sample_requests.id"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    answered: Mapped[float | None]
    """When the answer came; None: it is still offered."""
    accepted: Mapped[bool | None]
    code: Mapped[str | None]
    text: Mapped[str | None]
    chosen: Mapped[int]
    """Samples that the device says leave."""


class SampleRow(Base):
    """One sample; deleted after a time."""

    __tablename__ = "samples"
    __table_args__ = (Index("samples_by_age", "received"),)

    request: Mapped[str] = mapped_column(ForeignKey("sample_requests.id"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    sample: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    release: Mapped[int]
    taken: Mapped[float]
    received: Mapped[float]
    why: Mapped[str]
    confidence: Mapped[float | None]
    size: Mapped[int]
    body: Mapped[bytes]
    """:class:`agent.protocol.telemetry.Sample`; see :mod:`cloud_hub.telemetry.bodies`."""
