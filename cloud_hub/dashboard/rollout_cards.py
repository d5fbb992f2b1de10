"""Rollouts as the pages show them."""

from msgspec import Struct

from cloud_hub.rollouts.machine import ENDED, DeviceState, RolloutState, Status
from cloud_hub.rollouts.views import RolloutView

DEVICES_SHOWN = 24
"""Of one stage; of the others only how many there are."""
TONES = {
    Status.RUNNING: "busy",
    Status.PAUSED: "bad",
    Status.COMPLETED: "good",
    Status.ABORTED: "quiet",
    Status.ROLLING_BACK: "warn",
    Status.ROLLED_BACK: "warn",
}


class Chip(Struct, frozen=True, kw_only=True):
    """One device of a stage."""

    device: str
    tone: str
    state: str
    why: str


class Stage(Struct, frozen=True, kw_only=True):
    chips: tuple[Chip, ...]
    """Those that need a look first."""
    more: int
    current: bool


class RolloutCard(Struct, frozen=True, kw_only=True):
    view: RolloutView
    tone: str
    status: str
    stages: tuple[Stage, ...]
    done: int
    total: int
    open: bool


def card(view: RolloutView) -> RolloutCard:
    state: RolloutState = view.state
    return RolloutCard(
        view=view,
        tone=TONES[state.status],
        status=state.status.value.replace("-", " "),
        stages=tuple(_stage(view, number) for number in range(state.stages)),
        done=sum(device.outcome == "committed" for device in state.devices),
        total=len(state.devices),
        open=state.status not in ENDED,
    )


_FIRST = ("bad", "warn", "busy", "quiet", "good")


def _stage(view: RolloutView, number: int) -> Stage:
    state = view.state
    chips = sorted(
        (_chip(device, view.waiting) for device in state.in_stage(number)),
        key=lambda chip: (_FIRST.index(chip.tone), chip.device),
    )
    return Stage(
        chips=tuple(chips[:DEVICES_SHOWN]),
        more=max(0, len(chips) - DEVICES_SHOWN),
        current=number == state.stage and state.status in (Status.RUNNING, Status.PAUSED),
    )


def _chip(device: DeviceState, waiting: dict[str, str]) -> Chip:
    tone, said = "quiet", "not asked yet"
    if device.restored:
        tone, said = "warn", "gone back" if device.restored == "committed" else str(device.outcome)
    elif device.outcome == "committed":
        tone, said = "good", "committed"
    elif device.outcome == "failed":
        tone, said = "bad", "failed"
    elif device.assigned:
        tone, said = "busy", "waits" if device.device in waiting else "under way"
    return Chip(
        device=device.device,
        tone=tone,
        state=said,
        why=device.reason or waiting.get(device.device, ""),
    )
