"""The time that signatures and certificates are judged by. Pure: clocks are arguments."""

BUILD_TIME = 1_795_824_000.0
"""When this agent was released, Unix seconds: no clock is right that says less (2026-11-28). Set with each release; a test
keeps it near the newest commit and out of the future."""


def trusted_time(system: float, hub: float, *, build: float = BUILD_TIME) -> float:
    """The latest of what is known, in Unix seconds.

    Only ``hub`` is ever stored: were the system's clock stored too, one wrong hour of it would make everything look expired
    for ever.

    Args:
        system: this machine's clock.
        hub: the newest time that the hub signed; 0 before the first.
        build: of the agent.
    """
    return max(system, build, hub)


class HubClock:
    """The newest hub-signed time, and what has passed since it was noted: a lower bound of the time that goes on.

    Without it a device whose own clock is dead would see time stand still, and a frozen hub would never look old.
    """

    def __init__(self) -> None:
        self._base = 0.0
        self._noted = 0.0

    def note(self, hub: float, monotonic: float) -> None:
        """Hub-signed time ``hub`` (Unix seconds) is known at ``monotonic`` (seconds of a clock that only goes forward)."""
        if hub > self.now(monotonic):
            self._base, self._noted = hub, monotonic

    def now(self, monotonic: float) -> float:
        """0 before the first."""
        return self._base + (monotonic - self._noted) if self._base else 0.0
