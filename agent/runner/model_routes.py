"""The paths of one model."""

from http import HTTPStatus

from agent.runner.compression import compress, inflate, wanted_encoding
from agent.runner.descriptions import model_config, model_metadata, model_statistics
from agent.runner.errors import RequestError
from agent.runner.openinference import header_length
from agent.runner.responses import Body
from agent.runner.routes import Names, Route, guarded
from agent.runner.service import ModelService
from agent.web.messages import BINARY, JSON, Answer, Pending, Request, json_answer


class ModelRoutes:
    """Answers what names a model."""

    def __init__(self, service: ModelService, *, maximum_body_bytes: int) -> None:
        self._service = service
        self._maximum_body_bytes = maximum_body_bytes

    def routes(self) -> tuple[Route, ...]:
        """All of them, with and without the version."""
        return tuple(
            Route(method, f"{base}{rest}", handle)
            for base in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
            for method, rest, handle in (
                (b"POST", "/infer", self._infer),
                (b"GET", "", self._metadata),
                (b"GET", "/ready", self._ready),
                (b"GET", "/config", self._config),
                (b"GET", "/stats", self._statistics),
            )
        )

    def _infer(self, request: Request, _: Names) -> Answer | Pending:
        service = self._service
        body, length, encoding = self._opened(request)
        call = service.begin(body, length, request.arrived, peer=request.uid)
        if service.quick(call):
            return _inferred(service.answer(call), encoding)
        pending = Pending()

        def tell() -> None:
            pending.set(guarded(request, lambda: _inferred(service.outcome(call), encoding)))

        service.queue(call, tell, lambda: pending.abandoned)
        return pending

    def _opened(self, request: Request) -> tuple[bytes, int | None, bytes | None]:
        """The body without its compression, the length of its JSON, and what to compress the answer with."""
        headers, body = request.headers, request.body
        try:
            given = headers.get(b"content-encoding")
            if given is not None:
                body = inflate(body, given, self._maximum_body_bytes)
            told = headers.get(b"inference-header-content-length")
            length = None if told is None else header_length(told)
        except RequestError:
            self._service.statistics.refused()
            raise
        accept = headers.get(b"accept-encoding")
        return body, length, None if accept is None else wanted_encoding(accept)

    def _metadata(self, _request: Request, _: Names) -> Answer:
        return json_answer(model_metadata(self._service))

    def _ready(self, _request: Request, _: Names) -> Answer:
        return Answer(HTTPStatus.OK, [])

    def _config(self, _request: Request, _: Names) -> Answer:
        return json_answer(model_config(self._service))

    def _statistics(self, _request: Request, _: Names) -> Answer:
        return json_answer({"model_stats": [model_statistics(self._service)]})


def _inferred(body: Body, encoding: bytes | None) -> Answer:
    parts, json_length = body
    if encoding is not None:
        parts = compress(parts, encoding)
    return Answer(
        HTTPStatus.OK, parts, JSON if json_length is None else BINARY, json_length, encoding=encoding
    )
