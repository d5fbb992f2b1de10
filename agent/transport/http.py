"""Enrolment over HTTP: once in a device's life, from a command; the daemon does not import this."""

import hashlib
import ipaddress
import ssl
import time
from urllib.parse import urlsplit

import httpx
import msgspec

from agent.core.trusted_time import trusted_time
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.enrolment import EnrolmentRequest, EnrolmentResponse
from agent.protocol.errors import ProtocolError
from agent.transport.errors import EnrolmentError
from agent.transport.trusted_tls import judge_at

PATH = "/v1/enrol"
TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 ``application/problem+json``, what a person reads of it."""

    title: str = ""
    detail: str = ""


def enrol(
    hub_url: str, request: EnrolmentRequest, *, client: httpx.Client | None = None
) -> EnrolmentResponse:
    """Trade a single-use token and a CSR for a certificate and the trusted root; blocks.

    Args:
        hub_url: ``https://…``, or ``http://`` on loopback.
        request: its token carries the digest of the root, which the answer must match.
        client: for a test or a proxy; default: one that verifies TLS.

    Raises:
        EnrolmentError: unreachable, refused (with the hub's words), or an answer that can't be trusted.
    """
    url = hub_url.rstrip("/") + PATH
    _refuse_open_network(hub_url)
    body = _post(url, encode_json(request), client)
    try:
        answer = decode_json(body, EnrolmentResponse, limit=MAX_ANSWER_BYTES)
    except ProtocolError as error:
        raise EnrolmentError(f"{url}: not an enrolment answer: {error}") from error
    _check(url, request, answer)
    return answer


def _post(url: str, body: bytes, client: httpx.Client | None) -> bytes:
    owned = client or httpx.Client(timeout=TIMEOUT_SECONDS, verify=_tls())
    try:
        response = owned.post(url, content=body, headers={"Content-Type": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EnrolmentError(f"{url}: {str(error) or type(error).__name__}") from error
    finally:
        if client is None:
            owned.close()
    if not response.is_success:
        raise EnrolmentError(f"{url}: the hub answered {response.status_code}: {_words(response)}")
    return response.content


def _tls() -> ssl.SSLContext:
    """A device that was never on may have no clock yet; that it enrols with the right hub is the token's word."""
    return judge_at(ssl.create_default_context(), lambda: trusted_time(time.time(), 0.0))


def _words(response: httpx.Response) -> str:
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except msgspec.DecodeError:
        return response.reason_phrase
    return ": ".join(part for part in (problem.title, problem.detail) if part) or response.reason_phrase


def _refuse_open_network(hub_url: str) -> None:
    """The token is a secret: it does not travel in clear, except within this machine."""
    parts = urlsplit(hub_url)
    host = parts.hostname or ""
    if not host or parts.scheme not in {"http", "https"}:
        raise EnrolmentError(f"{hub_url!r} is not a hub's address; for instance https://hub.example.org")
    if parts.scheme == "http" and not _is_loopback(host):
        raise EnrolmentError(f"{hub_url}: a token is not sent in clear over a network; use https://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(url: str, request: EnrolmentRequest, answer: EnrolmentResponse) -> None:
    expected = request.token.rpartition(".")[2]
    found = hashlib.sha256(answer.root.encode()).hexdigest()
    if found != expected:
        raise EnrolmentError(
            f"{url}: the root of trust has SHA-256 {found}, the token says {expected}: this is not the hub "
            "that issued the token, or it was tampered with"
        )
    if answer.device != request.device:
        raise EnrolmentError(f"{url}: the answer is for device {answer.device!r}, not {request.device!r}")
