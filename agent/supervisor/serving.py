"""What a model's server is told to keep to, and what it tells."""

from typing import Literal

from msgspec import Struct

from agent.core.restart import RestartPolicy
from agent.protocol.state import Reason
from agent.supervisor.specs import RunnerSpec


class ServerSettings(Struct, frozen=True, kw_only=True):
    """How long a model's server waits for what, and what it may do for want of memory."""

    load_timeout_seconds: float = 60.0
    accept_timeout_seconds: float = 10.0
    drain_seconds: float = 30.0
    """For idle clients of a replaced runner."""
    stop_seconds: float = 5.0
    outage_grace_seconds: float = 2.0
    """After a crash, new connections wait this long in the listen queue for the next runner before they are told 503."""
    restart: RestartPolicy = RestartPolicy()
    memory_reserve_mib: float = 32.0
    """Must stay free beside a candidate and its budget."""
    allow_gap: bool = True
    """Whether the active runner may be stopped for a candidate that does not fit beside it."""


RunnerEventKind = Literal["runner-died", "runner-restarted", "gap-began", "gap-ended"]


class RunnerEvent(Struct, frozen=True, kw_only=True):
    """The active runner died, or was stopped to make room; or something serves again."""

    kind: RunnerEventKind
    spec: RunnerSpec
    """Of the runner that died or was stopped; for ``runner-restarted`` and ``gap-ended`` of the one that serves now."""
    reason: Reason
    """Why the runner, or the attempt to start it, ended; for ``runner-restarted`` the death that it makes good."""
    crashes: int = 0
    """In a row, without a stable time between."""
    looping: bool = False
    """So many that it is a crash loop; restarts go on, slowly."""
    gap_seconds: float | None = None
    """For ``gap-ended``: how long nothing served."""


class Gap(Struct, kw_only=True):
    """The active runner was stopped to make room, and nothing serves yet."""

    stopped: RunnerSpec | None
    """What is started again if nothing takes its place."""
    began: float
    """``time.monotonic()``."""

    def ended_by(self, spec: RunnerSpec, now: float) -> RunnerEvent:
        """What is told when ``spec`` serves at ``now``."""
        seconds = now - self.began
        text = f"release {spec.release} serves; nothing did for {seconds:.1f} s"
        reason = Reason(code="gap-ended", text=text)
        return RunnerEvent(kind="gap-ended", spec=spec, reason=reason, gap_seconds=seconds)
