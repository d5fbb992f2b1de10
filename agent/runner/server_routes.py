"""The paths that name no model: the server itself, the repository, shared memory, metrics."""

from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.runner import descriptions
from agent.runner.errors import RequestError
from agent.runner.registrations import Registration
from agent.runner.routes import Names, Route
from agent.runner.service import ModelService
from agent.runner.shared_memory import Regions
from agent.web.messages import Answer, Request, json_answer

_PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"

_GOVERNED = (
    "models are not loaded or unloaded here: the hub governs which release this device serves, and the agent puts it "
    "into place"
)
_NO_CUDA = "CUDA shared memory is not supported: models run on the CPU; use system shared memory"
_NO_TRACE = "tracing is not supported; /v2/models/stats tells where the time goes"
_NO_LOGGING = "log settings are the agent's (its configuration, section log), not this server's"

Size = Annotated[int, Meta(ge=0, le=2**53)]


class _Register(Struct):
    key: str
    byte_size: Size
    offset: Size = 0


class _Index(Struct):
    ready: bool = False


B = TypeVar("B", bound=Struct)


class ServerRoutes:
    """Answers what names no model, for a server of one."""

    def __init__(self, service: ModelService, regions: Regions) -> None:
        self._service = service
        self._regions = regions

    def routes(self) -> tuple[Route, ...]:
        """All of them."""
        system = "/v2/systemsharedmemory"
        cuda = "/v2/cudasharedmemory"
        return (
            Route(b"GET", "/v2", self._metadata),
            Route(b"GET", "/v2/health/live", _yes),
            Route(b"GET", "/v2/health/ready", _yes),
            Route(b"GET", "/v2/models/stats", self._statistics),
            Route(b"GET", "/metrics", self._metrics),
            Route(b"POST", "/v2/repository/index", self._index),
            Route(b"POST", "/v2/repository/models/{name}/load", _governed),
            Route(b"POST", "/v2/repository/models/{name}/unload", _governed),
            Route(b"GET", f"{system}/status", self._region_status),
            Route(b"GET", f"{system}/region/{{region}}/status", self._region_status),
            Route(b"POST", f"{system}/region/{{region}}/register", self._register),
            Route(b"POST", f"{system}/region/{{region}}/unregister", self._unregister),
            Route(b"POST", f"{system}/unregister", self._unregister),
            Route(b"GET", f"{cuda}/status", _no_regions),
            Route(b"GET", f"{cuda}/region/{{region}}/status", _no_cuda),
            Route(b"POST", f"{cuda}/region/{{region}}/register", _no_cuda),
            Route(b"POST", f"{cuda}/region/{{region}}/unregister", _yes),
            Route(b"POST", f"{cuda}/unregister", _yes),
            *(
                Route(method, path, handle)
                for method in (b"GET", b"POST")
                for path, handle in (
                    ("/v2/trace/setting", _no_trace),
                    ("/v2/models/{name}/trace/setting", _no_trace),
                    ("/v2/logging", _no_logging),
                )
            ),
        )

    def _metadata(self, _request: Request, _: Names) -> Answer:
        # Here, because it brings 2 MiB that a runner needs for nothing else (docs/decisions/0011).
        from importlib.metadata import version  # noqa: PLC0415

        return json_answer(
            descriptions.server_metadata(version("edgeward"), shared_memory=self._regions.enabled)
        )

    def _statistics(self, _request: Request, _: Names) -> Answer:
        return json_answer({"model_stats": [descriptions.model_statistics(self._service)]})

    def _metrics(self, _request: Request, _: Names) -> Answer:
        return Answer(HTTPStatus.OK, [descriptions.metrics(self._service)], _PROMETHEUS)

    def _index(self, request: Request, _: Names) -> Answer:
        if request.body:
            _decoded(request.body, _Index)  # whatever is asked: the one model is ready
        return json_answer([descriptions.index_entry(self._service)])

    def _register(self, request: Request, names: Names) -> Answer:
        asked = _decoded(request.body, _Register)
        self._regions.register(
            request.uid, names["region"], key=asked.key, offset=asked.offset, byte_size=asked.byte_size
        )
        return _yes(request, names)

    def _region_status(self, request: Request, names: Names) -> Answer:
        known = self._regions.status(request.uid, names.get("region"))
        return json_answer([_told(name, registration) for name, registration in known.items()])

    def _unregister(self, request: Request, names: Names) -> Answer:
        self._regions.unregister(request.uid, names.get("region"))
        return _yes(request, names)


def _told(name: str, registration: Registration) -> dict[str, Any]:
    return {
        "name": name,
        "key": registration.key,
        "offset": registration.offset,
        "byte_size": registration.byte_size,
    }


def _decoded(body: bytes, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"request: {error}") from error


def _yes(_request: Request, _: Names) -> Answer:
    return Answer(HTTPStatus.OK, [])


def _no_regions(_request: Request, _: Names) -> Answer:
    return json_answer([])


def _governed(_request: Request, _: Names) -> Answer:
    raise RequestError(_GOVERNED, HTTPStatus.FORBIDDEN)


def _no_cuda(_request: Request, _: Names) -> Answer:
    raise RequestError(_NO_CUDA, HTTPStatus.NOT_IMPLEMENTED)


def _no_trace(_request: Request, _: Names) -> Answer:
    raise RequestError(_NO_TRACE, HTTPStatus.NOT_IMPLEMENTED)


def _no_logging(_request: Request, _: Names) -> Answer:
    raise RequestError(_NO_LOGGING, HTTPStatus.NOT_IMPLEMENTED)
