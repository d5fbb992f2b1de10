"""What is persisted about one model, in one write: its slots and its newest deployment."""

from msgspec import Struct

from agent.core.errors import IllegalEventError
from agent.core.slots import InstalledRelease, Slots
from agent.protocol.ids import Count, Name, UnixTime, Version
from agent.protocol.state import FINAL_PHASES, Acceptance, Measurement, Phase, Reason, TriedVariant
from agent.protocol.verification import VerifiedAssignment


class Resumes(Struct, frozen=True, kw_only=True):
    """How often the agent has started with this deployment under way, so that no deployment can restart it for ever."""

    boot: str = ""
    """The start of the agent that was counted last."""
    in_a_row: Count = 0
    """Without the agent having run steadily between."""
    in_all: Count = 0


class DeploymentState(Struct, frozen=True, kw_only=True):
    """One run of the machine: a release on its way to this device, or the newest one that ended."""

    deployment: Name
    model: Name
    release: Version
    phase: Phase
    since: UnixTime
    """When ``phase`` began."""
    assignment: VerifiedAssignment | None = None
    """None where the assignment was refused."""
    reason: Reason | None = None
    measurement: Measurement | None = None
    tried: tuple[TriedVariant, ...] = ()
    refetched: bool = False
    """Its files were lost while it waited, and fetched again."""
    accepted: Acceptance | None = None
    resumes: Resumes = Resumes()
    superseded: bool = False
    """The run is being undone because the desired state changed; it ends superseded, not rolled back."""
    outcome: Phase | None = None
    """The first final phase: what the hub is told, once. A later reversal by a technician does not change it."""
    report_pending: bool = False
    """The outcome (or reversal) is not in the outbox yet."""

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return self.phase in FINAL_PHASES


class ModelState(Struct, frozen=True, kw_only=True):
    """Everything that is persisted about one model, in one write."""

    model: Name
    slots: Slots = Slots()
    deployment: DeploymentState | None = None
    ended: tuple[Name, ...] = ()
    """Ids of deployments that ended, oldest first."""

    @property
    def phase(self) -> Phase | None:
        """Phase of the newest deployment; None on a fresh device."""
        return None if self.deployment is None else self.deployment.phase

    @property
    def serving(self) -> InstalledRelease | None:
        """What answers requests in this phase: the candidate on probation, else the active release."""
        return self.slots.candidate if self.phase is Phase.PROBATION else self.slots.active


def current(state: ModelState) -> DeploymentState:
    if state.deployment is None:
        raise IllegalEventError(f"model {state.model}: no deployment is under way")
    return state.deployment


def tried(deployment: DeploymentState) -> tuple[str, ...]:
    """Names of the variants that the probe refused."""
    return tuple(row.variant for row in deployment.tried)


def same_release(installed: InstalledRelease, assignment: VerifiedAssignment) -> bool:
    """Whether ``installed`` is what ``assignment`` asks for: release, signed manifest and variant policy."""
    return (
        installed.release == assignment.release
        and installed.manifest == assignment.manifest.sha256
        and installed.variant_policy == assignment.assignment.variant_policy
    )
