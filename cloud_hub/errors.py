"""What can go wrong on the hub; each carries the HTTP status that its problem report has.

::

    HubError
    ├── ConfigError            hub.toml: a setting that is unknown, or not allowed
    ├── InputError        400  what was sent breaks a rule; the text names the part and what is allowed
    │   └── EvidenceError 422  a release lacks evidence, or its evidence speaks against it
    ├── AuthenticationError 401  no token, or one that is not valid
    ├── ForbiddenError    403  the role of the token does not allow it
    ├── NotFoundError     404
    ├── ConflictError     409  not possible in the state the thing is in
    ├── GoneError         410  it was there for a time that is over
    ├── PreconditionError 412  it is not what the request says it must be
    ├── RangeError        416  no byte of what was asked for is there
    ├── TooManyError      429  this one asks for too much at a time
    └── BusyError         503  all together do
"""

from typing import ClassVar


class HubError(Exception):
    """The text is for the person who asked: what is wrong, where, and what is allowed."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "The hub failed"

    @property
    def headers(self) -> dict[str, str]:
        """Of the answer."""
        return {}


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


class GoneError(HubError):
    status = 410
    title = "No longer there"


class PreconditionError(HubError):
    status = 412
    title = "Not what you expect"


class RangeError(HubError):
    """Args: what is wrong, and the size of the whole."""

    status = 416
    title = "No such range"

    def __init__(self, text: str, size: int) -> None:
        super().__init__(text)
        self.size = size

    @property
    def headers(self) -> dict[str, str]:
        """RFC 9110, 15.5.17."""
        return {"Content-Range": f"bytes */{self.size}"}


class TooManyError(HubError):
    status = 429
    title = "Too many at a time"

    @property
    def headers(self) -> dict[str, str]:
        """Soon: one's own downloads end."""
        return {"Retry-After": "5"}


class BusyError(HubError):
    status = 503
    title = "The hub is busy"

    @property
    def headers(self) -> dict[str, str]:
        """Later: those of many have to."""
        return {"Retry-After": "15"}
