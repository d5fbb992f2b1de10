"""One HTTP/1.1 connection: httptools parses, the answer leaves in one write."""

import array
import asyncio
import fcntl
import ipaddress
import os
import termios
import time
from collections import deque
from http import HTTPStatus
from typing import NamedTuple, Protocol, cast

import httptools

from agent.web.messages import FORWARDED, Answer, Pending, Request, error_answer
from agent.web.repeated import Head, RepeatedHeads

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together."""

LINGER_SECONDS = 2.0
"""How long a refused client may go on sending before it is cut; closing at once would destroy the answer on its way."""

REQUEST_SECONDS = 60.0
"""From a request's first byte to its last; a client that is slower holds a connection that others could use."""

READING_SECONDS = 60.0
"""For a client to read what waits for it."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Owner(Protocol):
    """What a connection needs from its server."""

    maximum_body_bytes: int
    hosts: frozenset[str]
    """Further names that clients may call TCP addresses by."""
    draining: bool
    closing: bool
    """Draining, and the time for idle clients is over."""

    def answer(self, request: Request) -> Answer | Pending:
        """Answer one request, now or later; never raises for what a client sent."""
        ...

    def refuse(self) -> None:
        """Count a request that was refused before it could be answered."""
        ...

    def opened(self, connection: "HttpConnection") -> None:
        """A connection exists."""
        ...

    def closed(self, connection: "HttpConnection") -> None:
        """It is gone."""
        ...


class Peer(NamedTuple):
    """Who is at the other end."""

    over_tcp: bool
    uid: int | None = None
    """Of the process that connected over a Unix socket."""


class HttpConnection(asyncio.Protocol):
    """Requests are answered in order: inline as soon as each is complete, or later where the handler says so."""

    def __init__(self, owner: Owner, peer: Peer) -> None:
        self._owner = owner
        self._peer = peer
        self._parser = httptools.HttpRequestParser(self)
        self._heads = RepeatedHeads()
        self._first_data = b""
        """With which the request that the parser is at began; empty where that was in the middle of other data."""
        self._repeated: Head | None = None
        """The head of the request whose body is coming, where the parser knows nothing of it."""
        self._transport: asyncio.Transport | None = None
        self._allowed_hosts: frozenset[str] | None = None
        self._known_host: bytes | None = None
        """The last that was found to be allowed: a client says the same each time."""
        self._lingering: asyncio.TimerHandle | None = None
        self._pending: Pending | None = None
        self._waiting: deque[tuple[Request | Answer, bool]] = deque()
        """Behind the pending one: pipelined requests, or a refusal; and whether the connection is kept after it. When
        it is ending, every request: only when all that has arrived is known can it be said which answer is the last."""
        self._refused = False
        self._leaving = False
        self._arrived = 0.0
        self._begun = 0.0
        self._unread_since: float | None = None
        self._received = 0
        self._busy = False
        self._reset()

    @property
    def idle(self) -> bool:
        """Between two requests, of which the next may still come."""
        return not self._busy and self._pending is None and self._lingering is None

    @property
    def over_tcp(self) -> bool:
        """Whether the client came over TCP."""
        return self._peer.over_tcp

    @property
    def _ending(self) -> bool:
        """The last answer is to say ``Connection: close``."""
        return self._owner.draining or self._leaving

    @property
    def _free(self) -> bool:
        """The next request may be answered."""
        return self._pending is None and self._lingering is None

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
        self._keep_alive = True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the transport up."""
        self._transport = cast("asyncio.Transport", transport)
        if self._peer.over_tcp:
            own = _host_of(transport.get_extra_info("sockname"))
            self._allowed_hosts = _LOOPBACK_NAMES | self._owner.hosts | {own}
        self._owner.opened(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Forget it."""
        if self._lingering is not None:
            self._lingering.cancel()
        if self._pending is not None:
            self._pending.abandoned = True
        self._waiting.clear()
        self._transport = None
        self._owner.closed(self)

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what is complete."""
        if self._refused or self._transport is None:
            return
        self._arrived = time.perf_counter()
        if not self._busy or self._repeated is not None:
            data = self._take_repeated(data)
        if data:
            self._parse(data)
        if self._waiting and self._pending is None:
            self._answer_waiting()

    def _take_repeated(self, data: bytes) -> bytes:
        """Answer requests whose head is known; gives what has to be parsed."""
        while data and not self._refused:
            head = self._repeated
            if head is None:
                found = self._heads.find(data)
                if found is None:
                    return data
                head, length = found
                self._repeated, self._busy, self._begun = head, True, self._arrived
                self._body, self._body_bytes = [], 0
                data = data[length:]
            missing = head.body_bytes - self._body_bytes
            if len(data) < missing:
                self._body.append(data)
                self._body_bytes += len(data)
                return b""
            self._body.append(data if len(data) == missing else data[:missing])
            data = data[missing:]
            self._repeated = None
            self._complete(head.method, head.path, head.headers, keep_alive=head.keep_alive)
        return b""

    def _parse(self, data: bytes) -> None:
        if not self._busy:
            self._first_data = data
        self._busy = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"not an HTTP/1.1 request: {error}")
        else:
            # A line without an end shows in no callback.
            self._received = self._received + len(data) if self._busy and self._in_head else 0
            if self._received > MAX_HEAD_BYTES:
                self._refuse_head()

    def eof_received(self) -> bool:
        """Close: a half request can't be answered any more."""
        return False

    def pause_writing(self) -> None:
        """Take no more requests from a client that does not read its answers."""
        self._unread_since = time.perf_counter()
        self._read_or_pause()

    def resume_writing(self) -> None:
        """It reads again."""
        self._unread_since = None
        self._read_or_pause()

    def _read_or_pause(self) -> None:
        """Read exactly while nothing waits for an answer and the client reads what it is given."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._unread_since is None and self._pending is None:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # httptools

    def on_message_begin(self) -> None:
        """A request starts."""
        self._reset()
        self._busy = True
        self._begun = self._arrived

    def on_url(self, url: bytes) -> None:
        """(A part of) the request's target."""
        self._url += url
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers[name.lower()] = value
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Refuse early what would be refused later anyway."""
        self._in_head = False
        self._keep_alive = self._parser.should_keep_alive()
        if self._parser.should_upgrade():
            self._refuse(HTTPStatus.BAD_REQUEST, "header Upgrade: this server speaks HTTP/1.1 only")
        if self._allowed_hosts is not None:
            self._check_origin(self._allowed_hosts)
        length = self._headers.get(b"content-length")
        if length is not None and int(length) > self._owner.maximum_body_bytes:
            self._refuse_size(int(length))
        expects = self._headers.get(b"expect")
        if expects is None or expects.lower() != b"100-continue":
            return
        if not self._refused and self._pending is None and not self._waiting:
            self._write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        if self._refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._owner.maximum_body_bytes:
            self._body.clear()
            self._refuse_size(self._body_bytes)
            return
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request: answer it, or keep it until those before it are answered."""
        if self._refused or self._transport is None or self._transport.is_closing():
            return
        method, path = self._parser.get_method(), self._url.partition(b"?")[0]
        first, self._first_data = self._first_data, b""
        if first:
            self._heads.remember(
                first, method=method, path=path, headers=self._headers, keep_alive=self._keep_alive
            )
        self._complete(method, path, self._headers, keep_alive=self._keep_alive)

    def _complete(self, method: bytes, path: bytes, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request = Request(method, path, headers, body, self._arrived, self._uid(headers))
        self._body = []
        self._busy = False
        self._in_head = True
        if self._pending is None and not self._ending:
            self._handle(request, keep_alive=keep_alive)
        else:
            self._waiting.append((request, keep_alive))

    def _uid(self, headers: dict[bytes, bytes]) -> int | None:
        """Of the client; unknown where the front, which knows no more than its TCP connection, passes a request on.

        Only the front's own user is believed: others could hide behind the header from what holds for their uid.
        """
        uid = self._peer.uid
        return None if FORWARDED in headers and uid in {0, os.geteuid()} else uid

    def _handle(self, request: Request, *, keep_alive: bool) -> None:
        answer = self._owner.answer(request)
        if not isinstance(answer, Pending):
            self._reply(answer, keep_alive=keep_alive)
            return
        self._pending = answer
        self._read_or_pause()
        answer.then(lambda given: self._answered(given, keep_alive=keep_alive))

    def _answered(self, answer: Answer, *, keep_alive: bool) -> None:
        self._pending = None
        self._reply(answer, keep_alive=keep_alive)
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        while self._waiting and self._free:
            following, keep_alive = self._waiting.popleft()
            if isinstance(following, Answer):
                self._reply(following, keep_alive=False)
            else:
                self._handle(following, keep_alive=keep_alive)
        self._read_or_pause()

    def _reply(self, answer: Answer, *, keep_alive: bool) -> None:
        keep = keep_alive and not (self._ending and self._is_last())
        self._write(_serialise(answer, keep_alive=keep))
        if not keep:
            self._finish()

    def _is_last(self) -> bool:
        """Whether nothing of a further request is here: what a client had sent before it could know is answered too."""
        if self._waiting:
            return False
        return self._owner.closing or not (self._busy or self._unread())

    def _unread(self) -> bool:
        """Whether the system holds bytes that were not read yet."""
        if self._transport is None or self._transport.is_closing():
            return False
        size = array.array("i", [0])
        try:
            fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, size)
        except (OSError, ValueError):
            return False
        return size[0] > 0

    # closing

    def close_if_idle(self) -> bool:
        """Close, unless a request is under way or has just come: then its answer says ``Connection: close``."""
        if not self.idle or self._unread():
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close after what is already answered has been sent."""
        if self._transport is not None:
            self._transport.close()

    def leave_tcp(self) -> None:
        """Where the client came over TCP: close after the next answer."""
        self._leaving = self._peer.over_tcp

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def cut_if_slow(self, now: float) -> None:
        """End a client that is too slow to send its request or to read its answer; ``now`` is ``time.perf_counter()``."""
        if self._unread_since is not None and now - self._unread_since > READING_SECONDS:
            self.abort()
        elif self._busy and not self._refused and now - self._begun > REQUEST_SECONDS:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT, f"the request was not complete after {REQUEST_SECONDS:g} s"
            )

    def _check_origin(self, allowed: frozenset[str]) -> None:
        """A web page in a browser on this machine could otherwise reach the model (DNS rebinding, cross-site posts)."""
        if b"origin" in self._headers:
            self._refuse(HTTPStatus.FORBIDDEN, "header Origin: web pages may not use this server")
            return
        given = self._headers.get(b"host", b"")
        if given == self._known_host:
            return
        host = given.decode("latin-1").lower()
        name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if name not in allowed:
            self._refuse(
                HTTPStatus.FORBIDDEN,
                f"header Host: {host!r} is not allowed; allowed: {', '.join(sorted(allowed))}",
            )
        else:
            self._known_host = given

    def _refuse_head(self) -> None:
        text = f"request line and headers: at most {MAX_HEAD_BYTES} bytes are allowed"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)

    def _refuse_size(self, size: int) -> None:
        self._refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"body: {size} bytes or more, at most {self._owner.maximum_body_bytes} are allowed",
        )

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer, take no more requests, and let the client finish sending so that the answer reaches it."""
        if self._refused:
            return
        self._refused = True
        self._owner.refuse()
        answer = error_answer(text, status)
        if self._pending is None and not self._waiting:
            self._reply(answer, keep_alive=False)
        else:
            self._waiting.append((answer, False))

    def _finish(self) -> None:
        """Half-close; close when the client does, or after a while."""
        transport = self._transport
        if transport is None or self._lingering is not None:
            return
        self._refused = True  # whatever comes after this answer is thrown away
        self._lingering = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            # TLS: this says goodbye after the answer, and throws away what comes until the client does too.
            transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _host_of(sockname: tuple[str, int] | tuple[str, int, int, int]) -> str:
    address = ipaddress.ip_address(sockname[0])
    return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004 (IPv6)


_STATUS_LINES = {
    status: f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: ".encode() for status in HTTPStatus
}


def _serialise(answer: Answer, *, keep_alive: bool) -> bytes:
    """Header and body as one piece of bytes."""
    head = [
        _STATUS_LINES[answer.status],
        answer.content_type,
        b"\r\nContent-Length: %d\r\n" % sum(map(len, answer.parts)),
    ]
    if answer.json_length is not None:
        head.append(b"Inference-Header-Content-Length: %d\r\n" % answer.json_length)
    if answer.allow is not None:
        head.append(b"Allow: %b\r\n" % answer.allow)
    if answer.encoding is not None:
        head.append(b"Content-Encoding: %b\r\n" % answer.encoding)
    if answer.retry_after is not None:
        head.append(b"Retry-After: %d\r\n" % answer.retry_after)
    head.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
    return b"".join(head if answer.head_only else [*head, *answer.parts])
