"""Tables of rollouts."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from cloud_hub.database import Base


class Rollout(Base):
    """One rollout; ``state`` is :class:`cloud_hub.rollouts.machine.RolloutState` as JSON."""

    __tablename__ = "rollouts"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    model: Mapped[str]
    release: Mapped[int]
    status: Mapped[str]
    """The same as in ``state``, to be asked for."""
    state: Mapped[bytes]
    policy: Mapped[str]
    shadow: Mapped[bytes | None]
    """:class:`agent.protocol.state.ShadowPolicy` as JSON; None: candidates are not compared on live requests."""
    created: Mapped[float]
    created_by: Mapped[str]
    updated: Mapped[float]


class RolloutDevice(Base):
    """What a rollout asked of one device, and what it goes back to."""

    __tablename__ = "rollout_devices"

    rollout: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    deployment: Mapped[str]
    previous: Mapped[int | None]
    """Release that the device had committed before; None: it had none."""
    restore: Mapped[str | None]
    """Deployment that brings it back, once there is one."""
    assigned: Mapped[float]


class DesiredAssignment(Base):
    """One model of one device's desired state."""

    __tablename__ = "desired_assignments"

    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[int]
    deployment: Mapped[str]
    policy: Mapped[str]
    shadow: Mapped[bytes | None]
    """As in :class:`Rollout`."""


class DesiredDocument(Base):
    """The director's newest document for a device, as it was signed."""

    __tablename__ = "desired_documents"

    device: Mapped[str] = mapped_column(ForeignKey("devices.id"), primary_key=True)
    version: Mapped[int]
    document: Mapped[str]
    keyid: Mapped[str]
    """Of the director's key that signed it."""
    signed: Mapped[float]
    expires: Mapped[float]
