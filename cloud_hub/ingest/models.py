"""Tables of ingest."""

from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class IngestProcess(Base):
    """What a process that ingests last said of itself."""

    __tablename__ = "ingest_processes"

    name: Mapped[str] = mapped_column(primary_key=True)
    started: Mapped[float]
    seen: Mapped[float]
    """When it last said so; one that is well does every few seconds."""
    report: Mapped[bytes]
    """:class:`cloud_hub.ingest.report.IngestReport`, JSON."""
