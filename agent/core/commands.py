"""What the service is to do, as data. Every command is idempotent: after a crash it may come a second time."""

from typing import TypeAlias

from msgspec import Struct

from agent.core.slots import InstalledRelease
from agent.protocol.ids import Name, Version
from agent.protocol.state import Acceptance, Phase, Reason
from agent.protocol.verification import VerifiedAssignment


class FetchRelease(Struct, frozen=True, kw_only=True, tag=True):
    """Fetch and check the manifest, choose a variant that is not in ``tried``, fetch what it needs.

    Waits while downloading is not asked for now. Answer: ``Fetched`` or ``FetchFailed``. Resumes where the bytes stopped.
    """

    deployment: Name
    assignment: VerifiedAssignment
    tried: tuple[Name, ...]
    accepted: Acceptance | None = None


class AwaitPermission(Struct, frozen=True, kw_only=True, tag=True):
    """Wait for what installing asks for (:mod:`agent.core.preconditions`), then verify the candidate's files again.

    Answer: ``Permitted``, ``BytesLost`` where ``refetched`` is false, or ``NotInstallable``.
    """

    deployment: Name
    candidate: InstalledRelease
    refetched: bool
    """Its files were lost once before."""
    accepted: Acceptance | None = None


class ProbeCandidate(Struct, frozen=True, kw_only=True, tag=True):
    """Start the candidate's runner on its private socket and measure it.

    Answer: ``ProbePassed``, ``VariantRejected`` or ``ProbeFailed``.
    """

    deployment: Name
    candidate: InstalledRelease
    tried: tuple[Name, ...]
    """Variants refused before this one."""


class ActivateCandidate(Struct, frozen=True, kw_only=True, tag=True):
    """Let the candidate accept on the model's address while what serves now drains.

    Answer: ``Activated`` or ``ActivationFailed``.
    """

    deployment: Name
    candidate: InstalledRelease
    replaces: InstalledRelease | None


class WatchProbation(Struct, frozen=True, kw_only=True, tag=True):
    """Watch the candidate by the manifest's probation. Answer: ``ProbationPassed`` or ``ProbationFailed``."""

    deployment: Name
    candidate: InstalledRelease


class CommitRelease(Struct, frozen=True, kw_only=True, tag=True):
    """The slots are committed: collect what no slot needs any more. No answer."""

    deployment: Name
    active: InstalledRelease


class RestorePrevious(Struct, frozen=True, kw_only=True, tag=True):
    """Let ``target`` answer on the model's address again and stop the candidate's runner.

    ``target`` None: nothing was committed before, so the address answers 503 with the reason. Answer: ``RolledBack``,
    in every case: a target that does not start is the restart policy's business, not a reason to stay half way.
    """

    deployment: Name
    target: InstalledRelease | None
    reason: Reason


class DiscardCandidate(Struct, frozen=True, kw_only=True, tag=True):
    """Stop the candidate's runner or the fetch if one goes on, and collect what no slot needs. No answer."""

    deployment: Name
    candidate: InstalledRelease | None


class ReportOutcome(Struct, frozen=True, kw_only=True, tag=True):
    """Put the deployment's one final outcome into the outbox, once per deployment id. Answer: ``Reported``."""

    deployment: Name
    release: Version
    outcome: Phase
    reason: Reason | None


class ReportReversal(Struct, frozen=True, kw_only=True, tag=True):
    """A release whose outcome was ``committed`` has been taken back: an event, not a second outcome.

    Once per deployment id. Answer: ``Reported``.
    """

    deployment: Name
    release: Version
    reason: Reason | None


class ServeActive(Struct, frozen=True, kw_only=True, tag=True):
    """After a start of the agent: the active release's runner serves. Nothing to do if it does. No answer."""

    active: InstalledRelease


Command: TypeAlias = (
    FetchRelease
    | AwaitPermission
    | ProbeCandidate
    | ActivateCandidate
    | WatchProbation
    | CommitRelease
    | RestorePrevious
    | DiscardCandidate
    | ReportOutcome
    | ReportReversal
    | ServeActive
)
