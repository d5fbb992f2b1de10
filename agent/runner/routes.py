"""Paths of the Open Inference Protocol → answers."""

import logging
from collections.abc import Callable
from http import HTTPStatus
from importlib.metadata import version as package_version
from typing import TypeVar

from agent.protocol.manifest import TensorSpec
from agent.runner.errors import QueueFullError, RequestError, ServingError, UnknownTargetError
from agent.runner.openinference import header_length
from agent.runner.service import Body, ModelService
from agent.web.messages import BINARY, JSON, Answer, Handler, Pending, Request, error_answer, json_answer

_log = logging.getLogger(__name__)

A = TypeVar("A", Answer, Answer | Pending)


class Routes:
    """Knows one model. Never raises for what a client sends."""

    def __init__(self, service: ModelService) -> None:
        self._service = service
        model = f"/v2/models/{service.model}"
        self._get: dict[str, Handler] = {
            "/v2": self._server_metadata,
            "/v2/health/live": _yes,
            "/v2/health/ready": _yes,
        }
        self._post: dict[str, Handler] = {}
        for base in (model, f"{model}/versions/{service.version}"):
            self._get[base] = self._model_metadata
            self._get[f"{base}/ready"] = _yes
            self._post[f"{base}/infer"] = self._infer

    def answer(self, request: Request) -> Answer | Pending:
        """Answer one request, now or later."""
        return self._guarded(request, lambda: self._dispatch(request))

    def _dispatch(self, request: Request) -> Answer | Pending:
        path = request.path.decode("latin-1")
        allowed, handler = self._find(path.rstrip("/"))
        if request.method != allowed:
            text = f"method {request.method.decode('latin-1')} is not allowed for {path}; allowed: {allowed.decode()}"
            return error_answer(text, HTTPStatus.METHOD_NOT_ALLOWED)._replace(allow=allowed)
        return handler(request)

    def _guarded(self, request: Request, produce: Callable[[], A]) -> A | Answer:
        """What ``produce`` gives, or the answer that tells what went wrong."""
        try:
            return produce()
        except QueueFullError as error:
            return error_answer(str(error), error.status)._replace(retry_after=error.retry_after)
        except (RequestError, ServingError) as error:
            return error_answer(str(error), error.status)
        except Exception:  # noqa: BLE001 (one request's trouble must not end the others)
            _log.exception("a request met an error of this program", extra={"path": repr(request.path)})
            return error_answer("internal error; the runner's log has it", HTTPStatus.INTERNAL_SERVER_ERROR)

    def _find(self, path: str) -> tuple[bytes, Handler]:
        if (handler := self._post.get(path)) is not None:
            return b"POST", handler
        if (handler := self._get.get(path)) is not None:
            return b"GET", handler
        raise UnknownTargetError(self._explain(path))

    def _explain(self, path: str) -> str:
        service = self._service
        match path.split("/"):
            case ["", "v2", "models", name, *_] if name != service.model:
                return f"model {name!r} is unknown; this runner serves: {service.model}"
            case ["", "v2", "models", _, "versions", version, *_] if version != service.version:
                return f"model {service.model!r} has no version {version!r}; served: {service.version}"
        return f"path {path!r} is not one of: {', '.join([*self._get, *self._post])}"

    def _infer(self, request: Request) -> Answer | Pending:
        service = self._service
        try:
            length = _json_length(request.headers)
        except RequestError:
            service.statistics.refused()
            raise
        call = service.begin(request.body, length, request.arrived)
        if service.quick(call):
            return _inferred(service.answer(call))
        pending = Pending()

        def tell() -> None:
            pending.set(self._guarded(request, lambda: _inferred(service.outcome(call))))

        service.queue(call, tell, lambda: pending.abandoned)
        return pending

    def _server_metadata(self, _: Request) -> Answer:
        return json_answer(
            {"name": "edgeward", "version": package_version("edgeward"), "extensions": ["binary_tensor_data"]}
        )

    def _model_metadata(self, _: Request) -> Answer:
        service = self._service
        return json_answer(
            {
                "name": service.model,
                "versions": [service.version],
                "platform": service.backend.describe(),
                "inputs": [_described(spec) for spec in service.contract.inputs],
                "outputs": [_described(spec) for spec in service.contract.outputs],
            }
        )


def _inferred(body: Body) -> Answer:
    parts, json_length = body
    return Answer(HTTPStatus.OK, parts, JSON if json_length is None else BINARY, json_length)


def _yes(_: Request) -> Answer:
    return Answer(HTTPStatus.OK, [])


def _json_length(headers: dict[bytes, bytes]) -> int | None:
    encoding = headers.get(b"content-encoding", b"identity")
    if encoding.lower() != b"identity":
        raise RequestError(
            f"header Content-Encoding: {encoding.decode('latin-1')!r} is not supported; allowed: identity",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    given = headers.get(b"inference-header-content-length")
    return None if given is None else header_length(given)


def _described(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
