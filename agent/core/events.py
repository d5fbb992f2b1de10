"""Everything that can happen to a deployment.

An event names the deployment it is about, so that a late answer of an earlier one is noticed
(:class:`agent.core.errors.StaleEventError`).
"""

from typing import TypeAlias

from msgspec import Struct

from agent.core.slots import InstalledRelease
from agent.protocol.ids import Name, Version
from agent.protocol.state import Acceptance, Measurement, Reason
from agent.protocol.verification import VerifiedAssignment


class Assigned(Struct, frozen=True, kw_only=True, tag=True):
    """A verified desired state names a release to install."""

    deployment: Name
    assignment: VerifiedAssignment


class AssignmentRefused(Struct, frozen=True, kw_only=True, tag=True):
    """The desired state names a release that must not be installed; the deployment ends before it begins."""

    deployment: Name
    release: Version
    reason: Reason


class AlreadyActive(Struct, frozen=True, kw_only=True, tag=True):
    """The desired state names the very release that is committed and serves: there is nothing to install."""

    deployment: Name
    assignment: VerifiedAssignment


class Fetched(Struct, frozen=True, kw_only=True, tag=True):
    """Manifest checked, variant chosen, every file of ``candidate.files`` complete and its hash verified."""

    deployment: Name
    candidate: InstalledRelease


class FetchFailed(Struct, frozen=True, kw_only=True, tag=True):
    """It can't be fetched or isn't what was signed; not for a network that is merely away (that is waited for)."""

    deployment: Name
    reason: Reason


class Accepted(Struct, frozen=True, kw_only=True, tag=True):
    """A person at the device lets the deployment be installed; the last word holds, and of this deployment only."""

    deployment: Name
    acceptance: Acceptance


class Steady(Struct, frozen=True, kw_only=True, tag=True):
    """The agent has run for a while since it resumed the deployment: restarts before are forgiven."""

    deployment: Name


class Permitted(Struct, frozen=True, kw_only=True, tag=True):
    """Everything that installing asks for is given, and every file of the candidate was verified again."""

    deployment: Name


class BytesLost(Struct, frozen=True, kw_only=True, tag=True):
    """A file of the candidate was damaged or lost while it waited: it is fetched again, once a deployment."""

    deployment: Name
    reason: Reason


class NotInstallable(Struct, frozen=True, kw_only=True, tag=True):
    """Waiting can't lead to an installation: its files do not last on this device, or the agent failed at it."""

    deployment: Name
    reason: Reason


class ProbePassed(Struct, frozen=True, kw_only=True, tag=True):
    """Golden outputs, latency and memory keep the manifest on this device."""

    deployment: Name
    measurement: Measurement


class VariantRejected(Struct, frozen=True, kw_only=True, tag=True):
    """The probe refused this variant and the release has another one that was not tried yet."""

    deployment: Name
    reason: Reason
    measurement: Measurement | None = None


class ProbeFailed(Struct, frozen=True, kw_only=True, tag=True):
    """The probe refused the last variant that could run here."""

    deployment: Name
    reason: Reason
    measurement: Measurement | None = None


class Activated(Struct, frozen=True, kw_only=True, tag=True):
    """The candidate answers on the model's address."""

    deployment: Name


class ActivationFailed(Struct, frozen=True, kw_only=True, tag=True):
    """The candidate could not take over."""

    deployment: Name
    reason: Reason


class ProbationPassed(Struct, frozen=True, kw_only=True, tag=True):
    """Enough good answers (:func:`agent.core.judgement.judge_probation`)."""

    deployment: Name


class ProbationFailed(Struct, frozen=True, kw_only=True, tag=True):
    """Its runner failed or crashed too often on probation."""

    deployment: Name
    reason: Reason


class RolledBack(Struct, frozen=True, kw_only=True, tag=True):
    """``RestorePrevious`` is done: what it named answers, or is in the hands of the restart policy."""

    deployment: Name


class Superseded(Struct, frozen=True, kw_only=True, tag=True):
    """The desired state no longer names this deployment."""

    deployment: Name
    reason: Reason


class RollbackRequested(Struct, frozen=True, kw_only=True, tag=True):
    """A technician goes back (:func:`agent.core.update_machine.request_rollback` builds it)."""

    deployment: Name
    reason: Reason


class Reported(Struct, frozen=True, kw_only=True, tag=True):
    """The outcome is durably in the outbox."""

    deployment: Name


Event: TypeAlias = (
    Assigned
    | AssignmentRefused
    | AlreadyActive
    | Fetched
    | FetchFailed
    | Accepted
    | Steady
    | Permitted
    | BytesLost
    | NotInstallable
    | ProbePassed
    | VariantRejected
    | ProbeFailed
    | Activated
    | ActivationFailed
    | ProbationPassed
    | ProbationFailed
    | RolledBack
    | Superseded
    | RollbackRequested
    | Reported
)
