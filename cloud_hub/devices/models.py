"""Tables of devices."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class Device(Base):
    """One enrolled device and the newest it said."""

    __tablename__ = "devices"

    id: Mapped[str] = mapped_column(primary_key=True)
    hardware_class: Mapped[str]
    enrolled: Mapped[float]
    certificate_sha256: Mapped[str]
    """Of the certificate's DER bytes."""
    certificate_serial: Mapped[str]
    """Decimal."""
    certificate_expires: Mapped[float]
    revoked: Mapped[float | None]
    """Since when its identity counts no more; enrolling it again gives it a new one."""
    revoked_reason: Mapped[str | None]
    held_since: Mapped[float | None]
    """Since when the hub asks it to keep what it runs; None: it does not."""
    held_by: Mapped[str | None]
    held_reason: Mapped[str | None]
    online: Mapped[bool] = mapped_column(default=False)
    boot: Mapped[str | None]
    """Of the newest presence or report."""
    presence_at: Mapped[float | None]
    reported: Mapped[bytes | None]
    """The newest :class:`agent.protocol.state.ReportedState`, JSON."""
    reported_boot: Mapped[str | None]
    reported_sequence: Mapped[int | None]
    reported_at: Mapped[float | None]
    """When the hub took it, in the hub's time."""


class RevokedCertificate(Base):
    """A device's certificate that counts no more: its device was revoked, or has a newer one."""

    __tablename__ = "revoked_certificates"

    serial: Mapped[str] = mapped_column(primary_key=True)
    """Decimal."""
    device: Mapped[str]
    expires: Mapped[float]
    """From then on it need not be listed."""
    revoked: Mapped[float]
    reason: Mapped[str]


class EnrolmentToken(Base):
    """A single-use token; only its SHA-256 is kept."""

    __tablename__ = "enrolment_tokens"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str | None]
    """The only device it is for, if it is for one."""
    created: Mapped[float]
    created_by: Mapped[str]
    expires: Mapped[float]
    used: Mapped[float | None]
    used_by: Mapped[str | None]


class CommittedRelease(Base):
    """The release of a model that a device last committed: what a rollback goes back to."""

    __tablename__ = "committed_releases"

    device: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int]
    deployment: Mapped[str]
    at: Mapped[float]
