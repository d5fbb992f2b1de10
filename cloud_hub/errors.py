"""What can go wrong on the hub; each carries the HTTP status that its problem report has.

::

    HubError
    ├── ConfigError            hub.toml: a setting that is unknown, or not allowed
    ├── InputError        400  what was sent breaks a rule; the text names the part and what is allowed
    │   └── EvidenceError 422  a release lacks evidence, or its evidence speaks against it
    ├── AuthenticationError 401  no token, or one that is not valid
    ├── ForbiddenError    403  the role of the token does not allow it
    ├── NotFoundError     404
    └── ConflictError     409  not possible in the state the thing is in
"""

from typing import ClassVar


class HubError(Exception):
    """The text is for the person who asked: what is wrong, where, and what is allowed."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "The hub failed"


class ConfigError(HubError):
    title = "The configuration is wrong"


class InputError(HubError):
    status = 400
    title = "The request is not valid"


class EvidenceError(InputError):
    status = 422
    title = "The release cannot be submitted"


class AuthenticationError(HubError):
    status = 401
    title = "Who are you?"


class ForbiddenError(HubError):
    status = 403
    title = "Not allowed"


class NotFoundError(HubError):
    status = 404
    title = "Not found"


class ConflictError(HubError):
    status = 409
    title = "Not possible now"
