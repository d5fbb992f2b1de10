"""The slots of one model as data: what serves, what is being proven, what can be gone back to.

``active`` and ``previous`` change at exactly two points, commit and rollback, each in the same persisted write as
the deployment's phase. ``candidate`` is set when a release has been fetched and cleared when its run ends. While a
candidate serves on probation, ``active`` still names the last committed release: it is what any crash returns to.
"""

from msgspec import Struct
from msgspec.structs import replace

from agent.protocol.ids import Count, Name, Sha256, Version
from agent.protocol.state import Reason, ShadowPolicy, VariantPolicy

HISTORY = 16
"""How many committed releases a device remembers as allowed to go back to."""


class StandbyVariant(Struct, frozen=True, kw_only=True):
    """A smaller variant of the same release, kept beside the chosen one for when that one stops meeting its budget."""

    variant: Name
    artifact: Sha256


class InstalledRelease(Struct, frozen=True, kw_only=True):
    """A complete, verified release on this device, with the variant that was chosen for it."""

    deployment: Name
    """The deployment that brought it."""
    model: Name
    release: Version
    variant: Name
    artifact: Sha256
    """Digest of the variant's file in the artifact store."""
    manifest: Sha256
    """Digest of the manifest in the artifact store; everything else about the release stands in it."""
    variant_policy: VariantPolicy
    files: tuple[Sha256, ...]
    """Every artifact the slot needs (manifest, variants, golden vectors, drift reference): keep these."""
    standby: StandbyVariant | None = None
    """None where the chosen variant is the smallest that can be loaded here, or none is to be kept."""
    chosen: Reason | None = None
    """Why this variant."""
    shadow: ShadowPolicy | None = None
    """How it is compared with what serves before it may serve; says nothing about what is installed."""

    def degraded(self) -> "InstalledRelease | None":
        """The same release served by its standby; None where it has none."""
        if self.standby is None:
            return None
        return replace(self, variant=self.standby.variant, artifact=self.standby.artifact, standby=None)


class Slots(Struct, frozen=True, kw_only=True):
    """Per model; all empty on a fresh device."""

    active: InstalledRelease | None = None
    """The last committed release: serves, unless a candidate is on probation."""
    candidate: InstalledRelease | None = None
    previous: InstalledRelease | None = None
    """The release committed before ``active``."""
    floor: Count = 0
    """Highest release ever committed; 0 where none was."""
    committed: tuple[Version, ...] = ()
    """Releases committed here, newest last: going back to one of them is always allowed."""

    def allows(self, release: int) -> bool:
        """Whether ``release`` may be installed: not below the floor, or committed here before."""
        return release >= self.floor or release in self.committed

    def referenced(self) -> frozenset[str]:
        """Digests that garbage collection must not take."""
        kept = (self.active, self.candidate, self.previous)
        return frozenset(digest for release in kept if release is not None for digest in release.files)


def commit(slots: Slots) -> Slots:
    """The candidate becomes active, the active one becomes previous; the floor rises, never falls."""
    candidate = slots.candidate
    assert candidate is not None, "only a candidate can be committed"  # noqa: S101 - the table keeps it
    others = tuple(release for release in slots.committed if release != candidate.release)
    return Slots(
        active=candidate,
        candidate=None,
        previous=slots.active,
        floor=max(slots.floor, candidate.release),
        committed=(*others, candidate.release)[-HISTORY:],
    )


def swap_back(slots: Slots) -> Slots:
    """A technician goes back: previous becomes active; what was active waits in ``candidate`` to be discarded."""
    return replace(slots, active=slots.previous, candidate=slots.active, previous=None)


def drop_candidate(slots: Slots) -> Slots:
    """The candidate is gone; what was committed stays."""
    return replace(slots, candidate=None)
