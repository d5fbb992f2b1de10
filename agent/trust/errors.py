"""Why metadata was not taken.

::

    TrustError
    ├── RefusedError          checked and not taken; ``reason`` has a stable code and the words for people
    ├── UnreachableError      could not be checked, because the hub could not be asked: try again later
    └── LocalFaultError       could not be checked, because of this device (a full disk): no verdict on the hub

Codes: ``rollback-attack`` (older than what was seen), ``expired``, ``bad-signature``, ``mix-and-match`` (a file that is
not the one its signed list names), ``missing-metadata`` (the hub does not have a file that it lists), ``malformed``,
``wrong-device``, ``not-approved``, ``withdrawn`` (approved once), ``unknown-model`` (nobody may approve releases of it), ``no-network``, ``verifier-error``;
of a request for samples also ``not-an-approver`` and ``request-expired``.
"""

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    UnsignedMetadataError,
)

from agent.protocol.state import Reason

ROLLBACK = "rollback-attack"
EXPIRED = "expired"
BAD_SIGNATURE = "bad-signature"
MIXED = "mix-and-match"
MISSING = "missing-metadata"
MALFORMED = "malformed"
WRONG_DEVICE = "wrong-device"
NOT_APPROVED = "not-approved"
WITHDRAWN = "withdrawn"
NO_NETWORK = "no-network"
NOT_AN_APPROVER = "not-an-approver"
REQUEST_EXPIRED = "request-expired"
VERIFIER = "verifier-error"


class TrustError(Exception):
    """Metadata was not taken."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.reason = Reason(code=code, text=text)


class RefusedError(TrustError):
    """Metadata was checked and is not taken."""


class UnreachableError(TrustError, DownloadError):
    """The hub could not be asked, so nothing is known; a later try may succeed."""

    def __init__(self, text: str) -> None:
        super().__init__(NO_NETWORK, text)


class LocalFaultError(TrustError):
    """The device itself could not do it, so nothing is known; a later try may succeed."""

    def __init__(self, text: str) -> None:
        super().__init__(VERIFIER, text)


_CODES: tuple[tuple[type[Exception], str], ...] = (
    (DownloadHTTPError, MISSING),
    (DownloadLengthMismatchError, MALFORMED),
    (ExpiredMetadataError, EXPIRED),
    (UnsignedMetadataError, BAD_SIGNATURE),
    (BadVersionNumberError, ROLLBACK),
    (LengthOrHashMismatchError, MIXED),
    (DownloadError, NO_NETWORK),
)


def as_trust_error(error: Exception, what: str) -> TrustError:
    """The TUF library's (or any) error in this room's terms; ``what`` says what was being read."""
    if isinstance(error, TrustError):
        return error
    for kind, code in _CODES:
        if isinstance(error, kind):
            text = f"{what}: {error}"
            return UnreachableError(text) if code == NO_NETWORK else RefusedError(code, text)
    if isinstance(error, OSError):
        return LocalFaultError(f"{what}: {error}")
    return RefusedError(MALFORMED, f"{what}: {error}")
