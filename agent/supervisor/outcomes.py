"""How a runner's process ended, and what was measured of one that did not."""

import signal

from msgspec import Struct

from agent.protocol.runner import ProbeReport
from agent.protocol.state import Reason
from agent.supervisor.cgroup import MemoryEvents
from agent.supervisor.specs import RunnerSpec


class Exit(Struct, frozen=True, kw_only=True):
    """How a runner's process ended."""

    code: int | None
    """Exit status; None where a signal ended it."""
    signal: int | None
    reason: Reason
    """``runner-died``, or why the supervisor or the kernel ended it: ``stopped``, ``memory-over-budget``,
    ``out-of-memory``, ``runner-stuck``, ``runner-protocol``, …"""

    @property
    def expected(self) -> bool:
        """The supervisor had asked for it."""
        return self.reason.code == "stopped"


class ProbeMeasurement(Struct, frozen=True, kw_only=True):
    """What the runner measured of itself, and what was measured of it."""

    report: ProbeReport
    peak_pss_mib: float
    """Peak PSS of the process from its start to the end of the probe, MiB."""


def over_budget(pss_mib: float, limit_mib: float) -> Reason:
    """The supervisor saw it use too much."""
    return Reason(
        code="memory-over-budget",
        text=f"the runner used {pss_mib:.1f} MiB (PSS), at most {limit_mib:.1f} MiB are allowed",
    )


def why_it_died(spec: RunnerSpec, exit_code: int, memory: MemoryEvents) -> Reason:
    """Of a process that nobody had asked to end; ``exit_code`` is negative for a signal."""
    if exit_code == -signal.SIGKILL and memory.killed:
        return _killed_for_memory(spec, memory)
    how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"
    return Reason(code="runner-died", text=f"the runner of {spec.model} {spec.release} died: {how}")


def _killed_for_memory(spec: RunnerSpec, memory: MemoryEvents) -> Reason:
    """Over its own limit it is the release's fault; in a device that has no memory left it need not be."""
    if memory.at_limit:
        limit = "" if spec.memory_limit_mib is None else f" of {spec.memory_limit_mib:.1f} MiB"
        return Reason(
            code="memory-over-budget",
            text=f"the kernel ended the runner at the limit above its budget{limit}",
        )
    return Reason(
        code="out-of-memory",
        text=f"the kernel ended the runner of {spec.model} {spec.release}: the device or the service had no memory left",
    )
