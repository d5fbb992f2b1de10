"""What people do with rollouts: start, pause, resume, abort, roll back; and the end of those of a withdrawn release.

Every function works in the caller's transaction and returns the devices whose desired state changed; they are
published after the commit. Should the hub die in between, it publishes everything again when it starts.
"""

from collections.abc import Callable
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from cloud_hub.access.service import Caller
from cloud_hub.audit.service import record
from cloud_hub.devices.models import Device
from cloud_hub.errors import ConflictError, InputError
from cloud_hub.registry.service import ReleaseState, get_release
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import Signing, stored_shadow
from cloud_hub.rollouts.engine import apply, execute, is_withdrawn
from cloud_hub.rollouts.machine import Status
from cloud_hub.rollouts.models import Rollout, RolloutDevice
from cloud_hub.rollouts.views import get_rollout
from cloud_hub.rollouts.wishes import RolloutWish, StageWish


def start(
    session: Session,
    wish: RolloutWish,
    *,
    signing: Signing,
    default_timeout: float,
    caller: Caller,
    now: float,
) -> tuple[Rollout, tuple[str, ...]]:
    """Begin a rollout.

    Raises:
        ConflictError: the release is not published, or another rollout of the model has not ended.
        InputError: no device, an unknown device, a stage that is neither a count nor a percentage, or one that times out
            before a device has compared long enough.
    """
    release = get_release(session, wish.model, wish.release)
    if release.state != ReleaseState.PUBLISHED:
        raise ConflictError(
            f"{wish.model} {wish.release} is {release.state}; only a published release is rolled out"
        )
    open_status = [status.value for status in Status if status not in machine.ENDED]
    other = session.scalar(
        select(Rollout).where(Rollout.model == wish.model, Rollout.status.in_(open_status))
    )
    if other is not None:
        raise ConflictError(
            f"rollout {other.id} of {other.model} {other.release} is {other.status}; abort it or roll it back first"
        )
    stages = machine.plan_stages(_fleet(session, wish), tuple(_size(stage) for stage in wish.stages))
    timeout = wish.stage_timeout_seconds or default_timeout
    if wish.shadow is not None and wish.shadow.seconds >= timeout:
        raise InputError(
            f"shadow.seconds: {wish.shadow.seconds:g} s is not shorter than a stage may take, {timeout:g} s"
        )
    state, commands = machine.begin(
        stages,
        now=now,
        stage_timeout_seconds=timeout,
        allowed_failures=wish.allowed_failures,
    )
    row = Rollout(
        model=wish.model,
        release=wish.release,
        status=state.status.value,
        state=msgspec.json.encode(state),
        policy=wish.variant_policy.value,
        shadow=stored_shadow(wish.shadow),
        created=now,
        created_by=caller.name,
        updated=now,
    )
    session.add(row)
    session.flush()
    record(
        session,
        now=now,
        actor=caller.name,
        action="rollout-start",
        subject=f"rollout {row.id}",
        model=wish.model,
        release=wish.release,
        stages=" / ".join(", ".join(stage) for stage in stages),
    )
    return row, execute(session, row, commands, signing, now)


def _fleet(session: Session, wish: RolloutWish) -> tuple[str, ...]:
    active = select(Device.id).where(Device.revoked.is_(None))
    known = tuple(session.scalars(active.order_by(Device.id)))
    wanted = tuple(dict.fromkeys(wish.devices)) if wish.devices is not None else known
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise InputError(f"devices: not enrolled, or revoked: {', '.join(missing)}")
    if not wanted:
        raise InputError("no device is enrolled yet, so there is nothing to roll out to")
    return wanted


def _size(stage: StageWish) -> tuple[Literal["count", "percent"], int]:
    if stage.count is not None and stage.percent is None:
        return "count", stage.count
    if stage.percent is not None and stage.count is None:
        return "percent", stage.percent
    raise InputError("stages: each stage has either a count or a percent")


PERSONS_EVENTS: dict[str, Callable[..., machine.Event]] = {
    "pause": machine.Pause,
    "resume": machine.Resume,
    "abort": machine.Abort,
    "rollback": machine.RollBack,
}


def steer(
    session: Session, rollout: int, action: str, *, signing: Signing, caller: Caller, now: float
) -> tuple[Rollout, tuple[str, ...]]:
    """Pause, resume, abort or roll back.

    Raises:
        ConflictError: not possible in the rollout's status.
    """
    row = get_rollout(session, rollout)
    if action == "rollback":
        _newest_of_model(session, row)
    record(session, now=now, actor=caller.name, action=f"rollout-{action}", subject=f"rollout {row.id}")
    try:
        changed = apply(session, row, PERSONS_EVENTS[action](now=now, by=caller.name), signing, now)
    except machine.IllegalEventError as error:
        raise ConflictError(f"rollout {row.id}: {error}") from error
    if action == "rollback":
        _settle_first_timers(session, row, signing, now)
        _settle_withdrawn(session, row, signing, now)
    return row, changed


def stop_rollouts(
    session: Session, model: str, release: int, *, why: str, signing: Signing, now: float
) -> None:
    """Abort every rollout of a release that is under way: its approvers have taken it back."""
    rows = session.scalars(select(Rollout).where(Rollout.model == model, Rollout.release == release)).all()
    for row in rows:
        if (Status(row.status), machine.Abort) in machine.TRANSITIONS:
            apply(session, row, machine.Abort(now=now, by=f"the hub: {why}"), signing, now)
            record(
                session, now=now, actor="hub", action="rollout-abort", subject=f"rollout {row.id}", reason=why
            )


def _settle_first_timers(session: Session, row: Rollout, signing: Signing, now: float) -> None:
    """A device that had no release before is simply assigned none: there is nothing to wait for."""
    query = select(RolloutDevice).where(RolloutDevice.rollout == row.id, RolloutDevice.previous.is_(None))
    for member in session.scalars(query).all():
        event = machine.DeviceRestored(now=now, device=member.device, outcome="committed")
        if (Status(row.status), type(event)) in machine.TRANSITIONS:
            apply(session, row, event, signing, now)


def _settle_withdrawn(session: Session, row: Rollout, signing: Signing, now: float) -> None:
    """A device whose earlier release was withdrawn can't go back to it."""
    query = select(RolloutDevice).where(
        RolloutDevice.rollout == row.id, RolloutDevice.previous.is_not(None), RolloutDevice.restore.is_(None)
    )
    for member in session.scalars(query).all():
        if member.previous is None or not is_withdrawn(session, row.model, member.previous):
            continue
        reason = f"{row.model} {member.previous}, which it had before, was withdrawn; give it another release"
        event = machine.DeviceRestored(now=now, device=member.device, outcome="failed", reason=reason)
        if (Status(row.status), type(event)) in machine.TRANSITIONS:
            apply(session, row, event, signing, now)


def _newest_of_model(session: Session, row: Rollout) -> None:
    """Only the newest rollout of a model can be turned back: an older one's devices have moved on."""
    newest = session.scalar(
        select(Rollout.id).where(Rollout.model == row.model).order_by(Rollout.id.desc()).limit(1)
    )
    if newest != row.id:
        raise ConflictError(
            f"rollout {newest} of {row.model} came after rollout {row.id}; roll that one back"
        )
