"""What the hub knows of rollouts, read and never changed."""

import msgspec
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.ids import UnixTime
from agent.protocol.state import ReportedState, ShadowPolicy
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import hold_of
from cloud_hub.errors import NotFoundError
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import shadow_from
from cloud_hub.rollouts.machine import RolloutState
from cloud_hub.rollouts.models import Rollout, RolloutDevice

WAITING_SHOWN = 100
ENDED = frozenset(status.value for status in machine.ENDED)


class RolloutView(Struct, frozen=True, kw_only=True):
    id: int
    model: str
    release: int
    created: UnixTime
    created_by: str
    updated: UnixTime
    state: RolloutState
    previous: dict[str, int | None]
    """Device → release it goes back to."""
    shadow: ShadowPolicy | None = None
    waiting: dict[str, str] = {}
    """Device → what it says that it waits for; of the first ones of an open rollout that have no outcome."""


def state_of(row: Rollout) -> RolloutState:
    return msgspec.json.decode(row.state, type=RolloutState)


def get_rollout(session: Session, rollout: int) -> Rollout:
    """Raises NotFoundError."""
    row = session.get(Rollout, rollout)
    if row is None:
        raise NotFoundError(f"there is no rollout {rollout}")
    return row


def waiting_devices(session: Session, row: Rollout) -> dict[str, str]:
    """Devices of the rollout that say what they wait for, with that: a window, an operator, probation, … (the first ones)."""
    under_way = [
        each.device
        for each in state_of(row).devices
        if each.assigned and (each.outcome or each.restored) is None
    ]
    found: dict[str, str] = {}
    for name in under_way[:WAITING_SHOWN]:
        device, member = session.get(Device, name), session.get(RolloutDevice, (row.id, name))
        if device is not None and member is not None:
            text = _waits_for(device, member)
            if text is not None:
                found[name] = text
    return found


def _waits_for(device: Device, member: RolloutDevice) -> str | None:
    """By its own word; of the hub's hold also who holds it and why, and before the device has said it."""
    hold, wanted = hold_of(device), member.restore or member.deployment
    reports = msgspec.json.decode(device.reported, type=ReportedState).deployments if device.reported else ()
    mine = [each for each in reports if each.deployment in {member.deployment, member.restore}]
    waits = [each.waiting_for for each in mine if each.waiting_for is not None]
    if hold is not None and (
        any(each.code == "held-by-hub" for each in waits) or all(each.deployment != wanted for each in mine)
    ):
        return hold.text
    return waits[-1].text if waits else None


def view(session: Session, row: Rollout) -> RolloutView:
    members = session.scalars(select(RolloutDevice).where(RolloutDevice.rollout == row.id))
    return RolloutView(
        id=row.id,
        model=row.model,
        release=row.release,
        created=row.created,
        created_by=row.created_by,
        updated=row.updated,
        state=state_of(row),
        previous={member.device: member.previous for member in members},
        shadow=shadow_from(row.shadow),
        waiting=waiting_devices(session, row) if row.status not in ENDED else {},
    )


def all_rollouts(session: Session) -> list[RolloutView]:
    """Newest first."""
    return [view(session, row) for row in session.scalars(select(Rollout).order_by(Rollout.id.desc()))]
