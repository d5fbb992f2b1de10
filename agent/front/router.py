"""Which model a path names, and what the front answers itself."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from agent.front import aggregate
from agent.front.errors import FrontError, RefusedError, UnknownModelError, UnknownPathError
from agent.front.upstream import Upstream
from agent.web.messages import Answer, Pending, Request, error_answer, json_answer

_MODELS = b"/v2/models/"
_REPOSITORY = b"/v2/repository/models/"


class Router:
    """Answers each request by passing it on, or by asking every model."""

    def __init__(self) -> None:
        self._upstreams: dict[bytes, Upstream] = {}
        self._together: dict[tuple[bytes, bytes], tuple[bytes, aggregate.Merge]] = {
            (b"GET", b"/v2"): (b"/v2", aggregate.server),
            (b"GET", b"/v2/health/ready"): (b"/v2/health/ready", aggregate.ready),
            (b"GET", b"/v2/models/stats"): (b"/v2/models/stats", aggregate.statistics),
            (b"POST", b"/v2/repository/index"): (b"/v2/repository/index", aggregate.index),
            (b"GET", b"/metrics"): (b"/metrics", aggregate.metrics),
        }

    def serve(self, models: Mapping[str, str]) -> None:
        """From now on, these models and the paths of their sockets."""
        for name in [name for name in self._upstreams if name.decode() not in models]:
            self._upstreams.pop(name).close()
        for model, path in models.items():
            name = model.encode()
            known = self._upstreams.get(name)
            if known is None or known.path != path:
                self._upstreams[name] = Upstream(model, path)

    def answer(self, request: Request) -> Answer | Pending:
        """A handler for :class:`agent.web.server.Server`."""
        try:
            return self._answer(request, request.path.rstrip(b"/"))
        except FrontError as error:
            return error_answer(str(error), error.status)

    def _answer(self, request: Request, path: bytes) -> Answer | Pending:
        if path == b"/v2/health/live":
            return Answer(HTTPStatus.OK, [])
        together = self._together.get((request.method, path))
        if together is not None:
            return self._ask_all(request, *together)
        if request.method not in {b"GET", b"POST"}:
            text = f"method {_shown(request.method)} is not allowed; allowed: GET, POST"
            return error_answer(text, HTTPStatus.METHOD_NOT_ALLOWED)._replace(allow=b"GET, POST")
        for prefix in (_MODELS, _REPOSITORY):
            if path.startswith(prefix):
                return self._pass_on(request, path[len(prefix) :].partition(b"/")[0])
        return self._alone(request, path)

    def _pass_on(self, request: Request, name: bytes) -> Pending:
        upstream = self._upstreams.get(name)
        if upstream is None:
            known = ", ".join(sorted(each.model for each in self._upstreams.values())) or "none"
            raise UnknownModelError(f"model {_shown(name)!r} is unknown; this device has: {known}")
        pending = Pending()
        upstream.send(request, lambda given: pending.set(_told(given)))
        return pending

    def _ask_all(self, request: Request, path: bytes, merge: aggregate.Merge) -> Pending:
        pending = Pending()
        answers: dict[str, Answer | FrontError] = {}
        upstreams = tuple(self._upstreams.values())
        asked = request._replace(path=path, headers=aggregate.plain(request.headers))

        def take(model: str) -> Callable[[Answer | FrontError], None]:
            def tell(given: Answer | FrontError) -> None:
                answers[model] = given
                if len(answers) == len(upstreams):
                    pending.set(merge(dict(sorted(answers.items()))))

            return tell

        if not upstreams:
            return _at_once(merge({}))
        for upstream in upstreams:
            upstream.send(asked, take(upstream.model))
        return pending

    def _alone(self, request: Request, path: bytes) -> Answer:
        """What belongs to a model's own socket: shared memory exists only where the peer is known."""
        shared = path.startswith((b"/v2/systemsharedmemory", b"/v2/cudasharedmemory"))
        if not shared:
            known = ", ".join(sorted({path.decode() for _, path in self._together}))
            raise UnknownPathError(
                f"path {_shown(path)!r} is unknown; allowed: {known}, /v2/models/<model>/…"
            )
        if path.endswith((b"/status", b"/unregister")):
            return json_answer([]) if request.method == b"GET" else Answer(HTTPStatus.OK, [])
        sockets = ", ".join(sorted(each.path for each in self._upstreams.values()))
        raise RefusedError(
            f"shared memory is not for this address; use the model's own Unix socket: {sockets}"
        )


def _told(given: Answer | FrontError) -> Answer:
    return error_answer(str(given), given.status) if isinstance(given, FrontError) else given


def _at_once(answer: Answer) -> Pending:
    pending = Pending()
    pending.set(answer)
    return pending


def _shown(raw: bytes) -> str:
    return raw.decode("latin-1")
