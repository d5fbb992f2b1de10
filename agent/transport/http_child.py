"""The child that speaks HTTP: ``python -m agent.transport.http_child``, one order on stdin, frames on stdout.

A process of its own, because httpx with HTTP/2 costs 10 MiB that a supervisor would never give back (decision 0027), and
because what parses a stranger's bytes need not be what holds the device's key. Blocking: when the supervisor does not read,
the pipe fills, this stops reading, and the server stops sending.
"""

import contextlib
import ctypes
import ipaddress
import resource
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import httpx
import msgspec

from agent.orphan import die_with_parent
from agent.protocol.codec import HEADER_BYTES, decode_msgpack, frame
from agent.transport.content_range import ContentRange, parse_content_range
from agent.transport.http_wire import PIECE_BYTES, Ended, Failed, FailureKind, FromChild, Order, Piece
from agent.transport.trusted_tls import judge_at

EXTRA_MEMORY_BYTES = 128 * 1024 * 1024
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_REFUSED_LOCATION = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.GONE}
_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_WORDS_BYTES = 4096
"""Of an error's body, at most."""


class _FailureError(Exception):
    def __init__(self, kind: FailureKind, text: str, seconds: float | None = None) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind
        self.seconds = seconds


class _Problem(msgspec.Struct, frozen=True):
    """RFC 9457, what a person reads of it."""

    title: str = ""
    detail: str = ""


class _Count:
    """Bytes of heads and bodies."""

    def __init__(self) -> None:
        self.received = 0
        self.sent = 0

    def head(self, response: httpx.Response) -> None:
        self.sent += len(response.request.method) + len(response.request.url.raw_path) + 12
        self.sent += _head_bytes(response.request.headers)
        self.received += 16 + _head_bytes(response.headers)


def fetch(order: Order, say: Callable[[FromChild], None]) -> None:
    """Carry out one order; the last thing said is ``Ended`` or ``Failed``."""
    count = _Count()
    try:
        version = _fetch(order, say, count)
    except _FailureError as error:
        kind, text, seconds = error.kind, str(error), error.seconds
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        kind, text, seconds = "refused", f"{order.url!r}: {error}", None
    except httpx.RemoteProtocolError as error:
        kind, text, seconds = _broken(error, count), _named(order, error), None
    except httpx.HTTPError as error:
        kind, text, seconds = _unreachable(error), _named(order, error), None
    else:
        say(Ended(version=version, received=count.received, sent=count.sent))
        return
    say(Failed(kind=kind, text=text, seconds=seconds, received=count.received, sent=count.sent))


def _fetch(order: Order, say: Callable[[FromChild], None], count: _Count) -> str:
    _refuse_open_network(order.url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "edgeward"}
    if order.offset:
        headers["Range"] = f"bytes={order.offset}-"
        if order.etag is not None:
            headers["If-Range"] = order.etag
    timeout = httpx.Timeout(order.read_seconds, connect=order.connect_seconds)
    with (
        httpx.Client(http2=True, verify=_tls(order), timeout=timeout) as client,
        client.stream("GET", order.url, headers=headers) as response,
    ):
        count.head(response)
        part = _accept(order, response)
        for data in _body(order, part, response, count):
            for begin in range(0, len(data), PIECE_BYTES):
                say(Piece(data[begin : begin + PIECE_BYTES]))
        return response.http_version


def _body(order: Order, part: ContentRange, response: httpx.Response, count: _Count) -> Iterator[bytes]:
    """What the answer has from the order's offset on."""
    at, end = part.begin, part.end
    for data in response.iter_raw():
        count.received += len(data)
        if at + len(data) > end:
            raise _FailureError("refused", f"it sends more than the {end - part.begin} bytes it announced")
        new = data[max(0, order.offset - at) :]  # a server without ranges begins at 0
        at += len(data)
        if new:
            yield new
    if at < end:
        raise _FailureError("no-answer", f"it ended at {at} of {end}")


def _accept(order: Order, response: httpx.Response) -> ContentRange:
    """The range that the answer's body is; raises where it is no use."""
    status = response.status_code
    if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise _refusal(order, response)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise _FailureError("refused", f"it is encoded as {encoding!r}, which was not asked for")
    etag = response.headers.get("etag")
    if order.etag is not None and etag is not None and etag != order.etag:
        raise _FailureError("refused", f"there is another file: ETag {etag}, not {order.etag}")
    if status == HTTPStatus.OK:
        part = ContentRange(begin=0, end=order.size, total=order.size)
    else:
        shown = response.headers.get("content-range", "")
        found = parse_content_range(shown)
        if found is None or found.begin != order.offset or order.offset == 0:
            raise _FailureError("refused", f"asked for bytes from {order.offset} on, it sent {shown!r}")
        part = found
    length = response.headers.get("content-length")
    announced = part.end - part.begin if length is None or not length.isdigit() else int(length)
    if part.total != order.size or announced != part.end - part.begin:
        there = part.total if part.total != order.size else part.begin + announced
        raise _FailureError("refused", f"it has {there} bytes there, {order.size} were signed")
    return part


def _refusal(order: Order, response: httpx.Response) -> _FailureError:
    status = response.status_code
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        shown = response.headers.get("content-range", "")
        return _FailureError("refused", f"416: asked for bytes from {order.offset} on; it has {shown!r}")
    if 300 <= status < 400:  # noqa: PLR2004 - redirects
        target = response.headers.get("location", "")[:200]
        return _FailureError("refused", f"{status}: redirected to {target!r}, which is not followed")
    text = f"{status} {_words(response)}"
    if status == HTTPStatus.NOT_FOUND:
        return _FailureError("absent", text)
    if status in _REFUSED_LOCATION:
        return _FailureError("expired", text)
    if status in _BUSY:
        return _FailureError("busy", text, retry_after(response.headers.get("retry-after"), time.time()))
    return _FailureError("refused", text)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds of a ``Retry-After`` (RFC 9110, 10.2.3): a number, or a date."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _words(response: httpx.Response) -> str:
    body = b""
    with contextlib.suppress(httpx.HTTPError):
        for data in response.iter_raw():
            body += data
            if len(body) > _WORDS_BYTES:
                break
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return response.reason_phrase
    return ": ".join(part for part in (problem.title, problem.detail) if part) or response.reason_phrase


def _refuse_open_network(url: str) -> None:
    """Without TLS only within this machine: whoever is on the way could keep a device from its update unseen."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _FailureError("refused", f"{url!r}: {error}") from error
    if parts.scheme == "https":
        return
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if parts.scheme != "http" or not loopback:
        raise _FailureError("refused", f"{url.partition('?')[0]!r}: expected https:// (http:// on loopback)")


def _tls(order: Order) -> ssl.SSLContext:
    """The system's authorities, for an object store, and the hub's own."""
    context = ssl.create_default_context()
    if order.authority is not None:
        context.load_verify_locations(cafile=order.authority)
    return judge_at(context, lambda: order.now)


def _broken(error: httpx.RemoteProtocolError, count: _Count) -> FailureKind:
    """A connection that ended is nobody's fault; bytes that are no HTTP are the server's."""
    text = str(error)
    ended = count.received > 0 or text.startswith("Server disconnected") or "ConnectionTerminated" in text
    return "no-answer" if ended else "refused"


def _unreachable(error: httpx.HTTPError) -> FailureKind:
    return "refused" if "CERTIFICATE_VERIFY_FAILED" in str(error) else "no-answer"


def _named(order: Order, error: httpx.HTTPError) -> str:
    return f"{urlsplit(order.url).netloc}: {str(error) or type(error).__name__}"


def _head_bytes(headers: httpx.Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.raw) + 4


def _confine() -> None:
    """No new privileges, no files, little memory; nobody may look inside."""
    sys.dont_write_bytecode = True
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for which, value in (
        (resource.RLIMIT_AS, used + EXTRA_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(which, (value, value))


def main() -> int:
    """Serve one order; 0 when it was answered."""
    incoming, outgoing = sys.stdin.buffer, sys.stdout.buffer
    if not die_with_parent(incoming.fileno()):
        return 1
    size = int.from_bytes(_exactly(incoming, HEADER_BYTES), "big")
    order = decode_msgpack(_exactly(incoming, size), Order)
    _confine()

    def say(message: FromChild) -> None:
        outgoing.write(frame(message))
        outgoing.flush()

    with contextlib.suppress(BrokenPipeError):
        fetch(order, say)
    return 0


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the supervisor closed the pipe")
    return data


if __name__ == "__main__":
    sys.exit(main())
