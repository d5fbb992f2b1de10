"""How a runner's process ended, and what was measured of one that did not."""

from msgspec import Struct

from agent.protocol.runner import ProbeReport
from agent.protocol.state import Reason


class Exit(Struct, frozen=True, kw_only=True):
    """How a runner's process ended."""

    code: int | None
    """Exit status; None where a signal ended it."""
    signal: int | None
    reason: Reason
    """``runner-died``, or why the supervisor ended it: ``stopped``, ``memory-over-budget``, ``runner-protocol``, …"""

    @property
    def expected(self) -> bool:
        """The supervisor had asked for it."""
        return self.reason.code == "stopped"


class ProbeMeasurement(Struct, frozen=True, kw_only=True):
    """What the runner measured of itself, and what was measured of it."""

    report: ProbeReport
    peak_pss_mib: float
    """Peak PSS of the process from its start to the end of the probe, MiB."""
