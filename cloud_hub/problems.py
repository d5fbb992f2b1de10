"""Errors as RFC 9457 problem reports (``application/problem+json``)."""

import logging
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import Struct

from agent.protocol.errors import ProtocolError
from cloud_hub.errors import HubError
from cloud_hub.signing.errors import RepositoryStateError, SignatureRefusedError, SigningError

log = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
AnyRequest = Request[Any, Any, Any]


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457; ``type`` is always ``about:blank``, so that ``title`` goes with the status."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str


def _respond(
    request: AnyRequest, status: int, title: str, detail: str, headers: dict[str, str] | None = None
) -> Response[Problem]:
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"}
    problem = Problem(title=title, status=status, detail=detail, instance=request.url.path)
    return Response(problem, status_code=status, media_type=PROBLEM_JSON, headers=headers)


def from_hub_error(request: AnyRequest, error: HubError) -> Response[Problem]:
    return _respond(request, error.status, error.title, str(error), error.headers)


def from_signing_error(request: AnyRequest, error: SigningError) -> Response[Problem]:
    if isinstance(error, SignatureRefusedError):
        return _respond(request, 403, "The signature is refused", str(error))
    title = "The repository is not ready" if isinstance(error, RepositoryStateError) else "Not possible now"
    return _respond(request, 409, title, str(error))


def from_protocol_error(request: AnyRequest, error: ProtocolError) -> Response[Problem]:
    return _respond(request, 400, "The request is not valid", str(error))


def from_http_exception(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    title = HTTPStatus(error.status_code).phrase
    return _respond(request, error.status_code, title, _detail(error))


def _detail(error: HTTPException) -> str:
    extra = error.extra if isinstance(error, ValidationException) else None
    if isinstance(extra, list):
        parts = [f"{item.get('key', '')}: {item.get('message', '')}".strip(": ") for item in extra]
        return "; ".join(parts) or str(error.detail)
    return str(error.detail)


def from_defect(request: AnyRequest, error: Exception) -> Response[Problem]:
    """A defect of the hub: the log has it whole, the caller learns nothing of our insides."""
    log.error("request failed", exc_info=error, extra={"path": request.url.path})
    return _respond(request, 500, "The hub failed", "this is a defect of the hub; its log says more")
