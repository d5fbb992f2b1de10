"""The rollout machine: what may happen to a rollout, and what follows. Pure: state and event in, state and commands out.

``TRANSITIONS`` says which event is legal in which status, and which function answers it. An illegal event raises
and changes nothing. A rollout ends in COMPLETED, ABORTED or ROLLED_BACK; until it ends, PAUSED is where it waits
for a person.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Literal

import msgspec
from msgspec import Struct

replace = msgspec.structs.replace


class Status(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    """By a person or by itself; nothing more is assigned until someone resumes, aborts or rolls back."""
    COMPLETED = "completed"
    ABORTED = "aborted"
    """Ended as it stood: devices keep what they have."""
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"


ENDED = frozenset({Status.COMPLETED, Status.ABORTED, Status.ROLLED_BACK})

NOBODY_WAITS: Mapping[str, str] = {}

Outcome = Literal["committed", "failed"]


class DeviceState(Struct, frozen=True, kw_only=True):
    """One device of the rollout."""

    device: str
    stage: int
    """Counted from 0."""
    assigned: bool = False
    outcome: Outcome | None = None
    reason: str | None = None
    restored: Outcome | None = None
    """Outcome of the way back."""


class RolloutState(Struct, frozen=True, kw_only=True):
    """All that decides what happens next."""

    status: Status
    stages: int
    stage: int
    """The current one, counted from 0."""
    stage_started: float
    """When it was assigned (or the rollout was resumed, or turned back), in the hub's time."""
    stage_timeout_seconds: float
    allowed_failures: int
    """Devices that may fail before the rollout pauses by itself."""
    accepted_failures: int = 0
    """Failures that a person has seen and gone on from."""
    devices: tuple[DeviceState, ...]
    reason: str | None = None
    """Why it stands where it stands, in words."""

    @property
    def failures(self) -> tuple[DeviceState, ...]:
        return tuple(device for device in self.devices if device.outcome == "failed")

    def in_stage(self, stage: int) -> tuple[DeviceState, ...]:
        return tuple(device for device in self.devices if device.stage == stage)


class Tick(Struct, frozen=True, kw_only=True):
    """Time passed."""

    now: float
    waits: dict[str, str] = {}
    """Device → what it says that it waits for; needed once a stage has taken too long."""


class DeviceReported(Struct, frozen=True, kw_only=True):
    """A device's deployment of this rollout ended."""

    now: float
    device: str
    outcome: Outcome
    reason: str | None = None


class DeviceRestored(Struct, frozen=True, kw_only=True):
    """A device's way back ended."""

    now: float
    device: str
    outcome: Outcome
    reason: str | None = None


class Pause(Struct, frozen=True, kw_only=True):
    now: float
    by: str


class Resume(Struct, frozen=True, kw_only=True):
    """A person has seen the failures so far and goes on."""

    now: float
    by: str


class Abort(Struct, frozen=True, kw_only=True):
    now: float
    by: str


class RollBack(Struct, frozen=True, kw_only=True):
    now: float
    by: str


Event = Tick | DeviceReported | DeviceRestored | Pause | Resume | Abort | RollBack


class AssignDevices(Struct, frozen=True, kw_only=True):
    """Give these devices the release."""

    devices: tuple[str, ...]


class RestoreDevices(Struct, frozen=True, kw_only=True):
    """Give these devices back what each had committed before."""

    devices: tuple[str, ...]


Command = AssignDevices | RestoreDevices
Step = tuple[RolloutState, tuple[Command, ...]]


class IllegalEventError(Exception):
    """The event is not possible in the rollout's status; nothing changed."""


def begin(
    stages: tuple[tuple[str, ...], ...], *, now: float, stage_timeout_seconds: float, allowed_failures: int
) -> Step:
    """A new rollout over ``stages`` of device ids (none of them empty), and the command for its first stage."""
    devices = tuple(
        DeviceState(device=name, stage=number) for number, stage in enumerate(stages) for name in stage
    )
    state = RolloutState(
        status=Status.RUNNING,
        stages=len(stages),
        stage=0,
        stage_started=now,
        stage_timeout_seconds=stage_timeout_seconds,
        allowed_failures=allowed_failures,
        devices=devices,
    )
    return _assign(state, 0, now)


def step(state: RolloutState, event: Event) -> Step:
    """The next state and the commands it asks for.

    Raises:
        IllegalEventError: ``event`` is not legal in this status.
    """
    answer = TRANSITIONS.get((state.status, type(event)))
    if answer is None:
        verb = type(event).__name__.lower()
        raise IllegalEventError(f"a rollout that is {state.status} cannot take {verb!r}")
    return answer(state, event)


def _tick(state: RolloutState, event: Tick) -> Step:
    return _advance(state, event.now, event.waits)


def _reported(state: RolloutState, event: DeviceReported) -> Step:
    state = _with_outcome(state, event)
    return _advance(state, event.now)


def _noted(state: RolloutState, event: DeviceReported) -> Step:
    return _with_outcome(state, event), ()


def _ignored(state: RolloutState, _event: Event) -> Step:
    return state, ()


def _restored(state: RolloutState, event: DeviceRestored) -> Step:
    devices = tuple(
        replace(device, restored=event.outcome, reason=event.reason or device.reason)
        if device.device == event.device and device.restored is None
        else device
        for device in state.devices
    )
    return _finish_rollback(replace(state, devices=devices), event.now)


def _tick_back(state: RolloutState, event: Tick) -> Step:
    return _finish_rollback(state, event.now, event.waits)


def _pause(state: RolloutState, event: Pause) -> Step:
    return replace(state, status=Status.PAUSED, reason=f"paused by {event.by}"), ()


def _resume(state: RolloutState, event: Resume) -> Step:
    resumed = replace(
        state,
        status=Status.RUNNING,
        accepted_failures=len(state.failures),
        stage_started=event.now,
        reason=f"resumed by {event.by}",
    )
    return _advance(resumed, event.now)


def _abort(state: RolloutState, event: Abort) -> Step:
    return replace(state, status=Status.ABORTED, reason=f"aborted by {event.by}"), ()


def _roll_back(state: RolloutState, event: RollBack) -> Step:
    back = tuple(device.device for device in state.devices if device.assigned)
    turned = replace(
        state, status=Status.ROLLING_BACK, stage_started=event.now, reason=f"rolled back by {event.by}"
    )
    return turned, (RestoreDevices(devices=back),)


TRANSITIONS: dict[tuple[Status, type[Event]], Callable[..., Step]] = {
    (Status.RUNNING, Tick): _tick,
    (Status.RUNNING, DeviceReported): _reported,
    (Status.RUNNING, Pause): _pause,
    (Status.RUNNING, Abort): _abort,
    (Status.RUNNING, RollBack): _roll_back,
    (Status.PAUSED, Tick): _ignored,
    (Status.PAUSED, DeviceReported): _noted,
    (Status.PAUSED, Resume): _resume,
    (Status.PAUSED, Abort): _abort,
    (Status.PAUSED, RollBack): _roll_back,
    (Status.COMPLETED, RollBack): _roll_back,
    (Status.ABORTED, DeviceReported): _noted,
    (Status.ABORTED, RollBack): _roll_back,
    (Status.ROLLING_BACK, Tick): _tick_back,
    (Status.ROLLING_BACK, DeviceRestored): _restored,
}


def _with_outcome(state: RolloutState, event: DeviceReported) -> RolloutState:
    """The first outcome of a deployment counts; a later one of the same device changes nothing."""
    devices = tuple(
        replace(device, outcome=event.outcome, reason=event.reason)
        if device.device == event.device and device.assigned and device.outcome is None
        else device
        for device in state.devices
    )
    return replace(state, devices=devices)


def is_overdue(state: RolloutState, now: float) -> bool:
    """Whether the stage, or the way back, has taken longer than it may."""
    return now - state.stage_started >= state.stage_timeout_seconds


def _names(devices: list[str], waits: Mapping[str, str]) -> str:
    return ", ".join(f"{name} (waits: {waits[name]})" if name in waits else name for name in devices)


def _advance(state: RolloutState, now: float, waits: Mapping[str, str] = NOBODY_WAITS) -> Step:
    """Pause on failures or silence, else finish the stage when all its devices have answered."""
    failures = state.failures
    if len(failures) > max(state.allowed_failures, state.accepted_failures):
        last = failures[-1]
        why = f"{last.device}: {last.reason or 'failed'}"
        if len(failures) > 1:
            why = f"{len(failures)} devices failed; {why}"
        return replace(state, status=Status.PAUSED, reason=f"paused by itself: {why}"), ()
    waiting = [device.device for device in state.in_stage(state.stage) if device.outcome is None]
    if waiting and is_overdue(state, now):
        names = _names(waiting, waits)
        text = f"paused by itself: no outcome from {names} within {state.stage_timeout_seconds:g} s"
        return replace(state, status=Status.PAUSED, reason=text), ()
    if waiting:
        return state, ()
    if state.stage + 1 < state.stages:
        return _assign(state, state.stage + 1, now)
    return replace(state, status=Status.COMPLETED, reason=_summary(state)), ()


def _assign(state: RolloutState, stage: int, now: float) -> Step:
    devices = tuple(
        replace(device, assigned=True) if device.stage == stage else device for device in state.devices
    )
    names = tuple(device.device for device in devices if device.stage == stage)
    moved = replace(state, stage=stage, stage_started=now, devices=devices)
    return moved, (AssignDevices(devices=names),)


def _finish_rollback(state: RolloutState, now: float, waits: Mapping[str, str] = NOBODY_WAITS) -> Step:
    waiting = [device.device for device in state.devices if device.assigned and device.restored is None]
    failed = [device for device in state.devices if device.restored == "failed"]
    if not waiting and not failed:
        return replace(state, status=Status.ROLLED_BACK), ()
    if not waiting:
        why = "; ".join(f"{device.device}: {device.reason or 'failed'}" for device in failed)
        return replace(state, status=Status.ROLLED_BACK, reason=f"rolled back, but not everywhere: {why}"), ()
    if is_overdue(state, now):
        text = f"rolling back, but still no answer from {_names(waiting, waits)}"
        return replace(state, reason=text), ()
    return state, ()


def _summary(state: RolloutState) -> str:
    committed = sum(device.outcome == "committed" for device in state.devices)
    return f"{committed} of {len(state.devices)} devices committed"


def plan_stages(
    devices: tuple[str, ...], sizes: tuple[tuple[Literal["count", "percent"], int], ...]
) -> tuple[tuple[str, ...], ...]:
    """Cut ``devices`` into stages.

    A count takes that many further devices; a percentage reaches that share of the fleet (rounded up) in all.
    Empty stages are left out; devices that no stage reaches are left alone.
    """
    stages: list[tuple[str, ...]] = []
    taken = 0
    for kind, amount in sizes:
        end = taken + amount if kind == "count" else max(taken, -(-len(devices) * amount // 100))
        stage = devices[taken:end]
        if stage:
            stages.append(stage)
        taken = min(end, len(devices))
    return tuple(stages)
