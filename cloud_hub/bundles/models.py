"""The table of receipts."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class BundleReceipt(Base):
    """One imported receipt."""

    __tablename__ = "bundle_receipts"

    sha256: Mapped[str] = mapped_column(primary_key=True)
    """Of the signed payload: imported twice it is here once."""
    device: Mapped[str]
    bundle: Mapped[str]
    """SHA-256 of the bundle's signed index."""
    time: Mapped[float]
    """The device's."""
    imported: Mapped[float]
    imported_by: Mapped[str]
    envelope: Mapped[bytes]
    """As it came, so that its signature can be checked again."""
