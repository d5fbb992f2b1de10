"""Supervisor ↔ verifier child: the child parses untrusted metadata, the supervisor fetches and stores (msgpack frames).

The supervisor sends one :class:`VerifyRequest`; the child asks for metadata with :class:`FetchMetadata` as often
as it needs and ends with a :class:`VerifyResult`.
"""

from msgspec import Struct

from agent.protocol.samples import VerifiedSampleRequest
from agent.protocol.state import Assignment, ModelRelease, Reason, RoleExpiry


class Mark(Struct, frozen=True, kw_only=True):
    """Highest version seen of one role under one set of keys: an older one is a rollback attack."""

    role: str
    """A metadata role, or ``director:<device>``."""
    keys: str
    """``<threshold>:<key id>,<key id>,…``, sorted. A mark binds every key set that shares at least a threshold of
    keys with it, because what was signed before would still verify; fewer in common start a new mark. Empty: a
    floor under any keys (``minimum_versions`` at enrolment)."""
    version: int


class VerifyRequest(Struct, frozen=True, kw_only=True, tag="verify"):
    device: str
    root: bytes
    """Bootstrap root.json from enrolment."""
    metadata: dict[str, bytes]
    """Stored trusted metadata by file name: ``2.root.json``, … (the chain from the bootstrap root on),
    ``timestamp.json``, ``snapshot.json``, ``targets.json``, ``digits.json``, ``director.json``."""
    marks: tuple[Mark, ...]
    now: float
    """Trusted time, Unix seconds."""
    system: float | None = None
    """The part of it that the hub did not sign: the later of this machine's clock and the build. It counts alone where the keys
    that signed later times were replaced."""
    director: bytes | None
    """The director's document to check; None refreshes the repository only."""
    bundle: bytes | None = None
    """The envelope of the bundle from which document and metadata come (:mod:`agent.protocol.bundle`), to be checked too."""
    sample_request: bytes | None = None
    """The envelope of a request for samples (:mod:`agent.protocol.samples`), to be checked too."""
    installed: tuple[ModelRelease, ...] = ()
    """What this device committed last of each model; those that were withdrawn come back in ``withdrawn``."""


class FetchMetadata(Struct, frozen=True, kw_only=True, tag="fetch"):
    name: str
    maximum_bytes: int


class FetchedMetadata(Struct, frozen=True, kw_only=True, tag="fetched"):
    """Answer to :class:`FetchMetadata`; ``data`` None: the hub has no such file."""

    data: bytes | None
    error: str | None = None
    """Set when it could not be asked (no network, timeout)."""
    fault: str | None = None
    """Set when it answered, and not with what was asked for: more than is allowed, other bytes again and again."""


class ReleaseFile(Struct, frozen=True, kw_only=True):
    filename: str
    sha256: str
    size: int


class VerifiedAssignment(Struct, frozen=True, kw_only=True):
    """One release that approvers signed and the director assigned to this device."""

    model: str
    release: int
    assignment: Assignment
    manifest: ReleaseFile
    files: tuple[ReleaseFile, ...]
    """Every target ``models/<model>/<release>/…`` of the model's role."""


UNKNOWN_MODEL = "unknown-model"
"""Reason code: the repository has no model of the name that the director gives."""


class RefusedAssignment(Struct, frozen=True, kw_only=True):
    """One target of the director's document that is not to be installed."""

    model: str
    release: int
    deployment: str
    reason: Reason


class VerifyResult(Struct, frozen=True, kw_only=True, tag="result"):
    """What may be installed, and what to store in one transaction.

    ``metadata``, ``marks`` and ``hub_time`` are stored even where ``refusal`` is set: they were verified.
    """

    assignments: tuple[VerifiedAssignment, ...] = ()
    refused: tuple[RefusedAssignment, ...] = ()
    refusal: Reason | None = None
    """Why nothing at all was taken; ``code`` ``no-network`` means: try again later."""
    metadata: dict[str, bytes] = {}
    """Files that changed, each whole; the others stay as they are stored."""
    marks: tuple[Mark, ...] = ()
    hub_time: float | None = None
    """Newest hub-signed time seen, capped by the root's expiry."""
    hub_time_replaced: bool = False
    """It takes the place of what is stored, which may be later: the keys that signed that were replaced."""
    expiry: tuple[RoleExpiry, ...] = ()
    """Until when each role holds that was verified: root, timestamp, snapshot, targets, each model, the director's document."""
    sample_request: VerifiedSampleRequest | None = None
    """The request that came along, where it was found good."""
    sample_refusal: Reason | None = None
    """Why it was not; where this is None too, ``refusal`` says why it could not be checked."""
    withdrawn: tuple[ModelRelease, ...] = ()
    """Of ``installed``, those that their model's approvers do not list any more."""


ToVerifier = VerifyRequest | FetchedMetadata
FromVerifier = FetchMetadata | VerifyResult
