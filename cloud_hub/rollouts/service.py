"""Runs the rollout machine: events from people, devices and the clock in; signed documents out.

Every function works in the caller's transaction and returns the devices whose desired state changed; they are
published after the commit. Should the hub die in between, it publishes everything again when it starts.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.ids import Name, UnixTime, Version
from agent.protocol.state import DeploymentReport, Phase, ReportedState, ShadowPolicy, VariantPolicy
from cloud_hub.access.service import Caller
from cloud_hub.audit.service import record
from cloud_hub.devices.models import CommittedRelease, Device
from cloud_hub.errors import ConflictError, InputError, NotFoundError
from cloud_hub.registry.service import ReleaseState, get_release
from cloud_hub.rollouts import machine
from cloud_hub.rollouts.documents import (
    Signing,
    assign,
    renew_documents,
    shadow_from,
    sign_document,
    stored_shadow,
    unassign,
)
from cloud_hub.rollouts.machine import AssignDevices, Command, RolloutState, Status
from cloud_hub.rollouts.models import DesiredAssignment, DesiredDocument, Rollout, RolloutDevice

REFUSAL_GRACE_SECONDS = 5.0
"""A refusal of a whole desired state counts for a rollout when it was reported this long after the newest document was
signed: an earlier one speaks about the document before."""

WAITING_SHOWN = 100
ENDED = frozenset(status.value for status in machine.ENDED)

_OUTCOMES: dict[Phase, machine.Outcome] = {
    Phase.COMMITTED: "committed",
    Phase.REFUSED: "failed",
    Phase.ROLLED_BACK: "failed",
    Phase.SUPERSEDED: "failed",
}


class StageWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage: exactly one of the two."""

    count: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """This many further devices."""
    percent: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Until this share of the fleet has it, in all."""


class RolloutWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/rollouts``."""

    model: Name
    release: Version
    stages: Annotated[tuple[StageWish, ...], Meta(min_length=1, max_length=32)] = (StageWish(percent=100),)
    devices: tuple[Name, ...] | None = None
    """Only these, in this order; None: every enrolled device, by name."""
    allowed_failures: Annotated[int, Meta(ge=0)] = 0
    """Devices that may refuse or roll back before the rollout pauses by itself."""
    stage_timeout_seconds: Annotated[float, Meta(gt=0)] | None = None
    """None: as configured."""
    variant_policy: VariantPolicy = VariantPolicy.MOST_ACCURATE
    shadow: ShadowPolicy | None = None
    """How each device compares the release with the one it serves, on live requests, before it may serve; None: not."""


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
    return row, _execute(session, row, commands, signing, now)


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
        changed = _apply(session, row, PERSONS_EVENTS[action](now=now, by=caller.name), signing, now)
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
            _apply(session, row, machine.Abort(now=now, by=f"the hub: {why}"), signing, now)
            record(
                session, now=now, actor="hub", action="rollout-abort", subject=f"rollout {row.id}", reason=why
            )


def _settle_first_timers(session: Session, row: Rollout, signing: Signing, now: float) -> None:
    """A device that had no release before is simply assigned none: there is nothing to wait for."""
    query = select(RolloutDevice).where(RolloutDevice.rollout == row.id, RolloutDevice.previous.is_(None))
    for member in session.scalars(query).all():
        event = machine.DeviceRestored(now=now, device=member.device, outcome="committed")
        if (Status(row.status), type(event)) in machine.TRANSITIONS:
            _apply(session, row, event, signing, now)


def _settle_withdrawn(session: Session, row: Rollout, signing: Signing, now: float) -> None:
    """A device whose earlier release was withdrawn can't go back to it."""
    query = select(RolloutDevice).where(
        RolloutDevice.rollout == row.id, RolloutDevice.previous.is_not(None), RolloutDevice.restore.is_(None)
    )
    for member in session.scalars(query).all():
        if member.previous is None or not _is_withdrawn(session, row.model, member.previous):
            continue
        reason = f"{row.model} {member.previous}, which it had before, was withdrawn; give it another release"
        event = machine.DeviceRestored(now=now, device=member.device, outcome="failed", reason=reason)
        if (Status(row.status), type(event)) in machine.TRANSITIONS:
            _apply(session, row, event, signing, now)


def _is_withdrawn(session: Session, model: str, release: int) -> bool:
    return get_release(session, model, release).state == ReleaseState.WITHDRAWN


def _newest_of_model(session: Session, row: Rollout) -> None:
    """Only the newest rollout of a model can be turned back: an older one's devices have moved on."""
    newest = session.scalar(
        select(Rollout.id).where(Rollout.model == row.model).order_by(Rollout.id.desc()).limit(1)
    )
    if newest != row.id:
        raise ConflictError(
            f"rollout {newest} of {row.model} came after rollout {row.id}; roll that one back"
        )


def take_report(session: Session, state: ReportedState, *, signing: Signing, now: float) -> tuple[str, ...]:
    """What a device's report means for commits and rollouts."""
    return take_deployments(session, state.device, state.deployments, signing=signing, now=now)


def take_deployments(
    session: Session, device: str, deployments: Iterable[DeploymentReport], *, signing: Signing, now: float
) -> tuple[str, ...]:
    """What a device says of its deployments, by whatever way it came: each outcome counts once, the first one."""
    reports = {report.deployment: report for report in deployments}
    _note_commits(session, device, reports.values(), now)
    changed: list[str] = []
    query = select(RolloutDevice).where(RolloutDevice.device == device)
    for member in session.scalars(query.order_by(RolloutDevice.rollout)).all():
        row = get_rollout(session, member.rollout)
        for event in _events(member, reports, now):
            if (Status(row.status), type(event)) in machine.TRANSITIONS:
                changed += _apply(session, row, event, signing, now)
    return tuple(dict.fromkeys(changed))


def _events(member: RolloutDevice, reports: dict[str, DeploymentReport], now: float) -> list[machine.Event]:
    events: list[machine.Event] = []
    report = reports.get(member.deployment)
    outcome = _OUTCOMES.get(report.phase) if report else None
    if report and outcome:
        reason = _reason(report)
        events.append(machine.DeviceReported(now=now, device=member.device, outcome=outcome, reason=reason))
    back = reports.get(member.restore) if member.restore else None
    outcome = _OUTCOMES.get(back.phase) if back else None
    if back and outcome:
        events.append(
            machine.DeviceRestored(now=now, device=member.device, outcome=outcome, reason=_reason(back))
        )
    return events


def _reason(report: DeploymentReport) -> str | None:
    if report.phase is Phase.COMMITTED:
        return None
    if report.reason is None:
        return report.phase.value
    return f"{report.phase.value}, {report.reason.text} ({report.reason.code})"


def _note_commits(session: Session, device: str, reports: Iterable[DeploymentReport], now: float) -> None:
    """A deployment that the hub asks for now and the device has committed is what later rollbacks go back to."""
    for report in reports:
        if report.phase is not Phase.COMMITTED:
            continue
        asked = session.get(DesiredAssignment, (device, report.model))
        if asked is None or asked.deployment != report.deployment:
            continue
        row = session.get(CommittedRelease, (device, report.model))
        if row is None:
            row = CommittedRelease(device=device, model=report.model, deployment="")
            session.add(row)
        if row.deployment != report.deployment:
            row.release, row.deployment, row.at = report.release, report.deployment, now
    session.flush()


def tick(session: Session, *, signing: Signing, now: float) -> tuple[str, ...]:
    """Time passed: timeouts, refusals of whole documents, documents that grow old."""
    changed = list(
        renew_documents(session, signing, now)
    )  # first: a document of a key that is gone is refused rightly
    moving = [Status.RUNNING.value, Status.ROLLING_BACK.value]
    for row in session.scalars(select(Rollout).where(Rollout.status.in_(moving))).all():
        waits = waiting_devices(session, row) if machine.is_overdue(_state(row), now) else {}
        for event in (
            *_gone(session, row, now),
            *_refusals(session, row, now),
            machine.Tick(now=now, waits=waits),
        ):
            if (Status(row.status), type(event)) in machine.TRANSITIONS:
                changed += _apply(session, row, event, signing, now)
    return tuple(dict.fromkeys(changed))


def waiting_devices(session: Session, row: Rollout) -> dict[str, str]:
    """Devices of the rollout that say what they wait for, with that: a window, an operator, probation, … (the first ones)."""
    under_way = [
        each.device
        for each in _state(row).devices
        if each.assigned and (each.outcome or each.restored) is None
    ]
    found: dict[str, str] = {}
    for name in under_way[:WAITING_SHOWN]:
        device, member = session.get(Device, name), session.get(RolloutDevice, (row.id, name))
        if device is None or member is None or device.reported is None:
            continue
        for report in msgspec.json.decode(device.reported, type=ReportedState).deployments:
            if report.deployment in {member.deployment, member.restore} and report.waiting_for is not None:
                found[name] = report.waiting_for.text
    return found


def _gone(session: Session, row: Rollout, now: float) -> list[machine.Event]:
    """Devices that will never answer, because their identity was revoked."""
    events: list[machine.Event] = []
    for member in _state(row).devices:
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
    waiting = {device.device for device in _state(row).devices if device.assigned and device.outcome is None}
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


def _apply(
    session: Session, row: Rollout, event: machine.Event, signing: Signing, now: float
) -> tuple[str, ...]:
    before = _state(row)
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
    return _execute(session, row, commands, signing, now)


def _execute(
    session: Session, row: Rollout, commands: tuple[Command, ...], signing: Signing, now: float
) -> tuple[str, ...]:
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
    if _is_withdrawn(session, row.model, member.previous):
        return  # the device would refuse it; it keeps what it has, and the rollout says so
    member.restore = f"b{row.id}-{secrets.token_hex(4)}"
    policy = VariantPolicy(row.policy)
    assign(session, device, row.model, member.previous, deployment=member.restore, policy=policy)


def _state(row: Rollout) -> RolloutState:
    return msgspec.json.decode(row.state, type=RolloutState)


def get_rollout(session: Session, rollout: int) -> Rollout:
    """Raises NotFoundError."""
    row = session.get(Rollout, rollout)
    if row is None:
        raise NotFoundError(f"there is no rollout {rollout}")
    return row


def view(session: Session, row: Rollout) -> RolloutView:
    members = session.scalars(select(RolloutDevice).where(RolloutDevice.rollout == row.id))
    return RolloutView(
        id=row.id,
        model=row.model,
        release=row.release,
        created=row.created,
        created_by=row.created_by,
        updated=row.updated,
        state=_state(row),
        previous={member.device: member.previous for member in members},
        shadow=shadow_from(row.shadow),
        waiting=waiting_devices(session, row) if row.status not in ENDED else {},
    )


def all_rollouts(session: Session) -> list[RolloutView]:
    """Newest first."""
    return [view(session, row) for row in session.scalars(select(Rollout).order_by(Rollout.id.desc()))]
