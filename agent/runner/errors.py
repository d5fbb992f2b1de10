"""What can be wrong in an inference process.

::

    RunnerError
    ├── RequestError               by the client's fault (4xx); ``status`` is the HTTP status
    │   ├── UnknownTargetError     404: no such path, model, version
    │   └── OverBudgetError        429: the user has asked for more rows than the query budget allows
    ├── ServingError               by the model's fault (5xx)
    │   ├── NotFiniteError         NaN or infinite outputs for finite inputs
    │   └── DeadlineError          504: answered too late, or not begun in time
    ├── QueueFullError             503: by nobody's fault, too many requests wait
    ├── LoadError                  a model that is not served; ``code`` is stable
    ├── ProbeError                 golden vectors that can't be used; ``code`` is stable
    └── ControlError               the supervisor broke the control channel's contract

Errors of model files and runs of them: :mod:`agent.runner.backends.errors`.
"""

import math
from http import HTTPStatus


class RunnerError(Exception):
    """Something is wrong in an inference process; the text says what and where."""


class RequestError(RunnerError):
    """A request is refused; the text says what, where and what is allowed."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


class UnknownTargetError(RequestError):
    """No such path, model or version."""

    def __init__(self, text: str) -> None:
        super().__init__(text, HTTPStatus.NOT_FOUND)


class OverBudgetError(RequestError):
    """The user's query budget is used up; ``retry_after`` is the seconds after which the request would be answered."""

    def __init__(self, text: str, *, retry_after: float) -> None:
        super().__init__(text, HTTPStatus.TOO_MANY_REQUESTS)
        self.retry_after = max(1, math.ceil(retry_after))


class ServingError(RunnerError):
    """The model failed on a good request."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR


class NotFiniteError(ServingError):
    """The model answered finite inputs with NaN or infinite values."""


class DeadlineError(ServingError):
    """The request's deadline has passed."""

    status = HTTPStatus.GATEWAY_TIMEOUT


class QueueFullError(RunnerError):
    """Too many requests wait for the model; ``retry_after`` is the seconds after which it is worth asking again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE

    def __init__(self, text: str, *, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = max(1, math.ceil(retry_after))


class LoadError(RunnerError):
    """The model is not served; ``code`` and text go to the supervisor."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class ProbeError(RunnerError):
    """The model can't be probed."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class ControlError(RunnerError):
    """The supervisor sent what the control channel does not allow."""
