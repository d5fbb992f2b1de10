"""Tables of access."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class AccessToken(Base):
    """A bearer token; only its SHA-256 is kept."""

    __tablename__ = "access_tokens"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    created: Mapped[float]
