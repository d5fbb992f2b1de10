"""What can be wrong between a client of the front and a model.

::

    FrontError                 ``status`` is the HTTP status
    ├── UnknownModelError      404: the device has no such model
    ├── UnknownPathError       404: names no model and is nothing the front answers
    ├── RefusedError           400: can't be done through the front
    └── ModelUnreachableError  503: its socket does not answer; 502: it broke off in the middle
"""

from http import HTTPStatus


class FrontError(Exception):
    """The front can't have a request answered; the text says why."""

    status = HTTPStatus.BAD_REQUEST


class UnknownModelError(FrontError):
    """The device has no such model."""

    status = HTTPStatus.NOT_FOUND


class UnknownPathError(FrontError):
    """No such path."""

    status = HTTPStatus.NOT_FOUND


class RefusedError(FrontError):
    """Not possible through the front."""


class ModelUnreachableError(FrontError):
    """A model's socket does not answer."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


class BrokenOffError(ModelUnreachableError):
    """A model's runner went away in the middle of a request."""

    status = HTTPStatus.BAD_GATEWAY
