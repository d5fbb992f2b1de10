"""Restart policy of a runner that exits by itself: exponential backoff, bounded, forgiven after a stable time."""

from msgspec import Struct

from agent.protocol.ids import Count, Seconds


class RestartPolicy(Struct, frozen=True, kw_only=True):
    """Delays double from the first to the longest one."""

    first_delay: Seconds = 0.2
    longest_delay: Seconds = 60.0
    stable: Seconds = 300.0
    """A runner that served this long before it crashed starts again as if it had never crashed."""
    loop_crashes: Count = 5
    """From this many crashes in a row on, it is called a crash loop (and reported as one)."""


class RestartState(Struct, frozen=True, kw_only=True):
    """How often the runner crashed without having been stable between."""

    crashes: Count = 0


class Restart(Struct, frozen=True, kw_only=True):
    """Start the runner again after ``delay`` seconds."""

    state: RestartState
    delay: Seconds
    looping: bool


def after_crash(policy: RestartPolicy, state: RestartState, *, started: float, crashed: float) -> Restart:
    """Decide the restart after a crash at ``crashed`` of a runner that began to serve at ``started``.

    Both are seconds of one monotonic clock. The delay of crash ``n`` in a row is
    ``min(longest_delay, first_delay * 2 ** (n - 1))``.
    """
    stable = crashed - started >= policy.stable
    crashes = 1 if stable else state.crashes + 1
    exponent = min(crashes - 1, 63)  # beyond, a float would overflow long after the bound holds
    delay = min(policy.longest_delay, policy.first_delay * 2.0**exponent)
    return Restart(state=RestartState(crashes=crashes), delay=delay, looping=crashes >= policy.loop_crashes)
