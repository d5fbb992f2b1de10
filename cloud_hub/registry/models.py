"""Tables of the registry."""

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class Release(Base):
    """One release of a model: ``draft`` → ``submitted`` → ``published`` → ``withdrawn``, or withdrawn before that."""

    __tablename__ = "releases"

    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    author: Mapped[str]
    """Name of the token that uploaded it."""
    created: Mapped[float]
    submitted: Mapped[float | None]
    published: Mapped[float | None]
    role_version: Mapped[int | None]
    """Version of the model's role that adds it."""
    model_signature: Mapped[str | None]
    """SHA-256 of the OpenSSF model signature that came with it; its bytes are in the artifact store."""
    model_signer: Mapped[str | None]
    """Who made that signature, in words; set when it was checked."""


class ReleaseFile(Base):
    """One file of a release; its bytes are in the artifact store under their SHA-256."""

    __tablename__ = "release_files"
    __table_args__ = (ForeignKeyConstraint(["model", "release"], ["releases.model", "releases.release"]),)

    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size: Mapped[int]
