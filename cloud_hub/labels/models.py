"""Tables of labels."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class LabelDeliveryRow(Base):
    """Labels for one model of one device, from when they were posted until long after the device has acknowledged them."""

    __tablename__ = "label_deliveries"
    __table_args__ = (Index("label_deliveries_by_device", "device", "created"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """Made of the device, the model and the labels: the same labels posted twice are one delivery."""
    device: Mapped[str]
    model: Mapped[str]
    count: Mapped[int]
    created: Mapped[float]
    created_by: Mapped[str]
    payload: Mapped[bytes | None]
    """:class:`agent.protocol.labels.LabelDelivery`, JSON; None once it is settled."""
    settled: Mapped[float | None]
    """When it was acknowledged, or given up."""
    outcomes: Mapped[str | None]
    """JSON: outcome → labels, as the device told."""
    refused: Mapped[str | None]
    """JSON: the first labels that could not be joined."""
    problem: Mapped[str | None]
    """Why none of it could be joined."""
