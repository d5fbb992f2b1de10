"""When a committed release falls back to its smaller variant, and when it comes back. Pure.

Hysteresis in both directions. The chosen variant is left when it has been broken without a break for ``degrade_after``.
The smaller one, the standby, is left when it has been fine without a break for a wait that begins at ``restore_after``.
The wait doubles each time a return does not hold for as long, and each time a variant is refused by its probe, up to
``longest_wait``; when a return has held, it begins anew. A standby that is broken as well is left after the longest
wait, and one that is down as soon as the chosen variant would be, since then nothing serves. So a device comes back
in the end, and never moves faster than its policy says.
"""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from agent.protocol.ids import Seconds

DOUBLINGS = 5
"""The wait before a return grows to 32 times what is configured, not further."""


class DegradePolicy(Struct, frozen=True, kw_only=True):
    """How patient a device is."""

    degrade_after: Seconds = 60.0
    restore_after: Seconds = 600.0

    @property
    def longest_wait(self) -> float:
        return self.restore_after * 2.0**DOUBLINGS


class Look(StrEnum):
    """How service is, seen now."""

    FINE = "fine"
    """Within its service level, or too few requests to say."""
    BROKEN = "broken"
    DOWN = "down"
    """Its runner dies again and again."""


class Move(StrEnum):
    """What to do now."""

    STAY = "stay"
    DEGRADE = "degrade"
    RESTORE = "restore"


class Standing(Struct, frozen=True, kw_only=True):
    """Which variant of a release serves, and since when how well. All times are seconds of one monotonic clock."""

    since: Seconds
    """When this variant began to serve."""
    degraded: bool = False
    """The standby serves."""
    returned: bool = False
    """The chosen variant serves again, after the standby has."""
    look: Look = Look.FINE
    unchanged: Seconds
    """Since when service looks so."""
    wait: Seconds
    """How long the standby must be fine before the next return."""
    not_before: Seconds
    """No move earlier: the last one was refused."""


def begin(now: float, policy: DegradePolicy) -> Standing:
    """The chosen variant begins to serve."""
    return Standing(since=now, unchanged=now, wait=policy.restore_after, not_before=now)


def observe(standing: Standing, look: Look, now: float, policy: DegradePolicy) -> tuple[Standing, Move]:
    """Take a look; a move is said at every look until it was made (:func:`moved`) or refused (:func:`refused`)."""
    if not standing.degraded and look is Look.DOWN:
        look = Look.BROKEN  # the same reason to leave it
    if look is not standing.look:
        standing = replace(standing, look=look, unchanged=now)
    if now < standing.not_before:
        return standing, Move.STAY
    lasted = now - standing.unchanged
    if not standing.degraded:
        fall = look is Look.BROKEN and lasted >= policy.degrade_after
        return standing, Move.DEGRADE if fall else Move.STAY
    patience = {
        Look.FINE: standing.wait,
        Look.DOWN: policy.degrade_after,
        Look.BROKEN: policy.longest_wait,
    }[look]
    left_long_ago = now - standing.since >= policy.longest_wait
    return standing, Move.RESTORE if lasted >= patience or left_long_ago else Move.STAY


def moved(standing: Standing, now: float, policy: DegradePolicy) -> Standing:
    """The other variant serves since ``now``."""
    after = replace(standing, since=now, look=Look.FINE, unchanged=now, not_before=now)
    if standing.degraded:
        return replace(after, degraded=False, returned=True)
    failed_return = standing.returned and now - standing.since < standing.wait
    wait = _longer(standing.wait, policy) if failed_return else policy.restore_after
    return replace(after, degraded=True, wait=wait)


def refused(standing: Standing, now: float, policy: DegradePolicy) -> Standing:
    """The other variant did not pass its probe: it is tried again after the wait, which doubles."""
    return replace(standing, not_before=now + standing.wait, wait=_longer(standing.wait, policy))


def _longer(wait: float, policy: DegradePolicy) -> float:
    return min(2 * wait, policy.longest_wait)
