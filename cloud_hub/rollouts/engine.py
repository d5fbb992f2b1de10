"""Runs the rollout machine: an event in; its new state kept, and signed documents out.

Every function works in the caller's transaction and returns the devices whose desired state changed; they are
published after the commit. Should the hub die in between, it publishes everything again when it starts.
"""

import secrets

import msgspec
from sqlalchemy.orm import Session

from agent.protocol.state import VariantPolicy
from cloud_hub.audit.service import record
from cloud_hub.devices.models import CommittedRelease
from cloud_hub.registry.service import ReleaseState, get_release
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import Signing, assign, shadow_from, sign_document, unassign
from cloud_hub.rollouts.machine import AssignDevices, Command
from cloud_hub.rollouts.models import Rollout, RolloutDevice
from cloud_hub.rollouts.views import state_of


def apply(
    session: Session, row: Rollout, event: machine.Event, signing: Signing, now: float
) -> tuple[str, ...]:
    """One event of one rollout; raises IllegalEventError where its status has no place for it."""
    before = state_of(row)
    state, commands = machine.step(before, event)
    if state == before:
        return ()
    row.state, row.status, row.updated = msgspec.json.encode(state), state.status.value, now
    session.flush()
    if state.status is not before.status and not hasattr(event, "by"):
        record(
            session,
            now=now,
            actor="hub",
            action=f"rollout-{state.status.value}",
            subject=f"rollout {row.id}",
            reason=state.reason,
        )
    return execute(session, row, commands, signing, now)


def execute(
    session: Session, row: Rollout, commands: tuple[Command, ...], signing: Signing, now: float
) -> tuple[str, ...]:
    """Carry out what the machine decided, one document a device."""
    changed: list[str] = []
    for command in commands:
        for device in command.devices:
            if isinstance(command, AssignDevices):
                _assign(session, row, device, now)
            else:
                _restore(session, row, device)
            sign_document(session, device, signing, now)
            changed.append(device)
    return tuple(changed)


def _assign(session: Session, row: Rollout, device: str, now: float) -> None:
    committed = session.get(CommittedRelease, (device, row.model))
    deployment = f"d{row.id}-{secrets.token_hex(4)}"
    session.add(
        RolloutDevice(
            rollout=row.id,
            device=device,
            deployment=deployment,
            previous=committed.release if committed else None,
            assigned=now,
        )
    )
    assign(
        session,
        device,
        row.model,
        row.release,
        deployment=deployment,
        policy=VariantPolicy(row.policy),
        shadow=shadow_from(row.shadow),
    )


def _restore(session: Session, row: Rollout, device: str) -> None:
    member = session.get_one(RolloutDevice, (row.id, device))
    if member.previous is None:
        unassign(session, device, row.model)
        return
    if is_withdrawn(session, row.model, member.previous):
        return  # the device would refuse it; it keeps what it has, and the rollout says so
    member.restore = f"b{row.id}-{secrets.token_hex(4)}"
    policy = VariantPolicy(row.policy)
    assign(session, device, row.model, member.previous, deployment=member.restore, policy=policy)


def is_withdrawn(session: Session, model: str, release: int) -> bool:
    return get_release(session, model, release).state == ReleaseState.WITHDRAWN
