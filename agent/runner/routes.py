"""Paths of the Open Inference Protocol → answers: which there are, and what happens when one goes wrong."""

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import NamedTuple, TypeAlias, TypeVar
from urllib.parse import unquote

from agent.runner.errors import (
    OverBudgetError,
    QueueFullError,
    RequestError,
    ServingError,
    UnknownTargetError,
)
from agent.web.messages import Answer, Pending, Request, error_answer

_log = logging.getLogger(__name__)

A = TypeVar("A", Answer, Answer | Pending)

Names: TypeAlias = dict[str, str]
"""What stands in a path where its template has ``{name}``."""


class Route(NamedTuple):
    """One path."""

    method: bytes
    template: str
    """For instance ``/v2/systemsharedmemory/region/{region}/register``."""
    handle: Callable[[Request, Names], Answer | Pending]
    """Raises ``RunnerError`` where it refuses or fails."""


class Router:
    """Finds what answers a request. Never raises for what a client sends."""

    def __init__(self, routes: Iterable[Route], fixed: Names) -> None:
        """``fixed``: the only value that some names may have, for instance the model's own."""
        self.routes = tuple(routes)
        self._fixed = fixed
        self._plain = {
            (route.method, path.encode()): route
            for route in self.routes
            if "{" not in (path := _filled(route.template, fixed))
        }

    def answer(self, request: Request) -> Answer | Pending:
        """Answer one request, now or later."""
        answer: Answer | Pending
        try:
            answer = self._dispatch(request)
        except Exception as error:  # noqa: BLE001 (one request's trouble must not end the others)
            answer = told(request, error)
        if request.method == b"HEAD" and isinstance(answer, Answer):
            return answer._replace(head_only=True)
        return answer

    def _dispatch(self, request: Request) -> Answer | Pending:
        route = self._plain.get((request.method, request.path))
        if route is not None:
            return route.handle(request, self._fixed)
        return self._search(request)

    def _search(self, request: Request) -> Answer | Pending:
        method = b"GET" if request.method == b"HEAD" else request.method
        segments = [unquote(part) for part in request.path.decode("latin-1").rstrip("/").split("/")]
        found = [
            (route, names)
            for route in self.routes
            if (names := _match(route.template.split("/"), segments)) is not None
        ]
        for route, names in found:
            if route.method == method:
                self._check_names(names)
                return route.handle(request, names)
        if not found:
            raise UnknownTargetError(self._explain("/".join(segments)))
        allowed = ", ".join(sorted({route.method.decode() for route, _ in found}))
        text = (
            f"method {method.decode('latin-1')} is not allowed for {'/'.join(segments)}; allowed: {allowed}"
        )
        return error_answer(text, HTTPStatus.METHOD_NOT_ALLOWED)._replace(allow=allowed.encode())

    def _check_names(self, names: Names) -> None:
        for name, only in self._fixed.items():
            if names.get(name, only) == only:
                continue
            if name == "model":
                raise UnknownTargetError(f"model {names[name]!r} is unknown; this runner serves: {only}")
            raise UnknownTargetError(
                f"model {self._fixed['model']!r} has no {name} {names[name]!r}; served: {only}"
            )

    def _explain(self, path: str) -> str:
        return f"path {path!r} is not one of: {', '.join(sorted({route.template for route in self.routes}))}"


def guarded(request: Request, produce: Callable[[], A]) -> A | Answer:
    """What ``produce`` gives, or the answer that tells what went wrong."""
    try:
        return produce()
    except Exception as error:  # noqa: BLE001 (as above)
        return told(request, error)


def told(request: Request, error: Exception) -> Answer:
    """The answer that tells what went wrong; what nobody foresaw goes to the log, with its traceback."""
    if isinstance(error, QueueFullError | OverBudgetError):
        return error_answer(str(error), error.status)._replace(retry_after=error.retry_after)
    if isinstance(error, RequestError | ServingError):
        return error_answer(str(error), error.status)
    _log.error("a request met an error of this program", extra={"path": repr(request.path)}, exc_info=error)
    return error_answer("internal error; the runner's log has it", HTTPStatus.INTERNAL_SERVER_ERROR)


def _filled(template: str, names: Names) -> str:
    for name, value in names.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _match(template: list[str], segments: list[str]) -> Names | None:
    if len(template) != len(segments):
        return None
    names: Names = {}
    for want, got in zip(template, segments, strict=True):
        if want.startswith("{") and got:
            names[want[1:-1]] = got
        elif want != got:
            return None
    return names
