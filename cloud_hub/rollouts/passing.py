"""What the passing of time means for rollouts, and for documents that grow old.

In the caller's transaction; returned are the devices whose desired state changed, to be published after the commit.
"""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.state import ReportedState
from cloud_hub.devices.models import Device
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import Signing, renew_documents
from cloud_hub.rollouts.engine import apply
from cloud_hub.rollouts.machine import Status
from cloud_hub.rollouts.models import DesiredDocument, Rollout, RolloutDevice
from cloud_hub.rollouts.views import state_of, waiting_devices

REFUSAL_GRACE_SECONDS = 5.0
"""A refusal of a whole desired state counts for a rollout when it was reported this long after the newest document was
signed: an earlier one speaks about the document before."""


def tick(session: Session, *, signing: Signing, now: float) -> tuple[str, ...]:
    """Time passed: timeouts, refusals of whole documents, documents that grow old."""
    changed = list(
        renew_documents(session, signing, now)
    )  # first: a document of a key that is gone is refused rightly
    moving = [Status.RUNNING.value, Status.ROLLING_BACK.value]
    for row in session.scalars(select(Rollout).where(Rollout.status.in_(moving))).all():
        waits = waiting_devices(session, row) if machine.is_overdue(state_of(row), now) else {}
        for event in (
            *_gone(session, row, now),
            *_refusals(session, row, now),
            machine.Tick(now=now, waits=waits),
        ):
            if (Status(row.status), type(event)) in machine.TRANSITIONS:
                changed += apply(session, row, event, signing, now)
    return tuple(dict.fromkeys(changed))


def _gone(session: Session, row: Rollout, now: float) -> list[machine.Event]:
    """Devices that will never answer, because their identity was revoked."""
    events: list[machine.Event] = []
    for member in state_of(row).devices:
        device = session.get(Device, member.device) if member.assigned else None
        if device is None or device.revoked is None:
            continue
        reason = f"its identity was revoked: {device.revoked_reason}"
        if member.outcome is None:
            events.append(
                machine.DeviceReported(now=now, device=member.device, outcome="failed", reason=reason)
            )
        if member.restored is None:
            events.append(
                machine.DeviceRestored(now=now, device=member.device, outcome="failed", reason=reason)
            )
    return events


def _refusals(session: Session, row: Rollout, now: float) -> list[machine.Event]:
    """Devices that refused their whole desired state, after this rollout gave it to them."""
    events: list[machine.Event] = []
    waiting = {
        device.device for device in state_of(row).devices if device.assigned and device.outcome is None
    }
    for name in sorted(waiting):
        device, member = session.get(Device, name), session.get(RolloutDevice, (row.id, name))
        if device is None or member is None or device.reported is None or device.reported_at is None:
            continue
        document = session.get(DesiredDocument, name)
        signed = member.assigned if document is None else max(member.assigned, document.signed)
        if device.reported_at < signed + REFUSAL_GRACE_SECONDS:
            continue
        refusal = msgspec.json.decode(device.reported, type=ReportedState).refusal
        if refusal is not None and refusal.code != "no-network":
            reason = f"refused the whole desired state, {refusal.text} ({refusal.code})"
            events.append(machine.DeviceReported(now=now, device=name, outcome="failed", reason=reason))
    return events
