"""When a model should be retrained. Pure: what the fleet says and how long it has said so in, what is to be done out."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from agent.protocol.ids import Name
from agent.protocol.manifest import Fraction
from cloud_hub.telemetry.views import DeviceDrift, ReleaseDrift

HOUR = 3_600.0
CALM_SHARE = 0.5
"""Of the policy's share: under that part of it the fleet counts as well again, so that nothing flickers at the edge."""

Cause = Literal["drift", "accuracy"]
Hours = Annotated[float, Meta(ge=0, le=8760)]


class RetrainingPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[retraining]``: when drift makes a request to retrain, for models that have no policy of their own."""

    enabled: bool = True
    """False: no request is made."""
    level: Literal["warning", "drift"] = "drift"
    """A device whose alarm (or verdict, where it raises none) is at this level, or over it, is affected."""
    signals: tuple[Name, ...] = ()
    """Only devices on which one of these is among the signals that moved most are affected; empty: any signal."""
    share: Annotated[float, Meta(gt=0, le=1)] = 0.2
    """Share of the devices that have a verdict which must be affected, and"""
    devices: Annotated[int, Meta(ge=1, le=10_000_000)] = 3
    """so many at least (all of them, in a smaller fleet), and"""
    hours: Hours = 24.0
    """for so long without a break."""
    accuracy_loss: Fraction | None = 0.05
    """… or: the accuracy estimated over the fleet lies, with its whole interval, this far under the release's own evaluation,
    for as long. Not used for models whose calibration forbids an estimate."""
    calm_hours: Hours = 24.0
    """A request ends by itself when under half of that share has been affected for so long."""


class Situation(Struct, frozen=True, kw_only=True):
    """What the fleet says of one release, for one cause."""

    broken: bool
    calm: bool
    text: str
    affected: tuple[str, ...] = ()


class Watch(Struct, frozen=True, kw_only=True):
    """As in :class:`cloud_hub.retraining.models.RetrainingWatch`."""

    since: float | None = None
    calm: float | None = None


Step = Literal["open", "refresh", "close"] | None


def is_affected(policy: RetrainingPolicy, device: DeviceDrift) -> bool:
    """Whether a device counts as one of those that drift."""
    levels = ("drift",) if policy.level == "drift" else ("warning", "drift")
    level = device.alarm.level if device.alarm is not None else device.level
    if level not in levels:
        return False
    moved = {each.signal for each in device.verdict.moved_most} if device.verdict else set()
    return not policy.signals or bool(moved.intersection(policy.signals))


def drift_situation(policy: RetrainingPolicy, drift: ReleaseDrift) -> Situation:
    """How many devices are affected. Each counts as one, whatever rows it claims."""
    known = [device for device in drift.devices if device.level not in ("", "insufficient data")]
    affected = tuple(device.device for device in known if is_affected(policy, device))
    share = len(affected) / len(known) if known else 0.0
    enough = len(affected) >= max(1, min(policy.devices, len(known)))
    of = f", in {' or '.join(policy.signals)}" if policy.signals else ""
    return Situation(
        broken=enough and share >= policy.share,
        calm=bool(known) and share < policy.share * CALM_SHARE,
        text=f"{len(affected)} of {len(known)} devices with a verdict are at {policy.level}{of} ({share:.0%}, the limit is {policy.share:.0%})",
        affected=affected,
    )


def accuracy_situation(policy: RetrainingPolicy, drift: ReleaseDrift, expected: float | None) -> Situation:
    """Whether the estimate lies under what the release's evaluation promised. ``expected``: that accuracy, 0 to 1."""
    estimate = drift.estimate
    if policy.accuracy_loss is None or expected is None or estimate is None:
        return Situation(broken=False, calm=estimate is None, text="there is no estimate")
    limit = expected - policy.accuracy_loss
    return Situation(
        broken=estimate.high < limit,
        calm=estimate.accuracy > expected - policy.accuracy_loss * CALM_SHARE,
        text=f"estimated accuracy {estimate.accuracy:.3f} ({estimate.low:.3f}-{estimate.high:.3f}) over "
        f"{estimate.devices} devices, where {expected:.3f} was evaluated; the limit is {limit:.3f}",
        affected=tuple(
            device.device for device in drift.devices if device.estimate is not None and not device.left_out
        ),
    )


def watch(before: Watch, situation: Situation, now: float) -> Watch:
    """Both clocks run on while their condition lasts, and start anew after a break."""
    return Watch(
        since=(before.since if before.since is not None else now) if situation.broken else None,
        calm=(before.calm if before.calm is not None else now) if situation.calm else None,
    )


def decide(policy: RetrainingPolicy, after: Watch, now: float, *, is_open: bool) -> Step:
    """What is to be done about a request that is open, or is not."""
    if not is_open:
        ripe = after.since is not None and now - after.since >= policy.hours * HOUR
        return "open" if policy.enabled and ripe else None
    if after.calm is not None and now - after.calm >= policy.calm_hours * HOUR:
        return "close"
    return "refresh" if after.since is not None else None


def expected_accuracy(accuracies: Sequence[float]) -> float | None:
    """Of a release's variants: the lowest, since a device may run any of them."""
    return min(accuracies, default=None)
