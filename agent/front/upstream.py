"""Connections to one model's Unix socket: kept, used for one request at a time, and opened again when a runner leaves."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeAlias, cast

import httptools

from agent.front.errors import BrokenOffError, FrontError, ModelUnreachableError
from agent.web.messages import FORWARDED, JSON, Answer, Request

MAX_CONNECTIONS = 128
"""To one model at once; as many requests may be under way for it."""

_KEPT_HEADERS = (
    b"content-type",
    b"content-encoding",
    b"accept-encoding",
    b"inference-header-content-length",
)
_LARGE = 64 * 1024
"""Bytes of a body from which it is not worth being copied to leave with its head."""

Tell: TypeAlias = Callable[[Answer | FrontError], None]


class Upstream:
    """One model."""

    def __init__(self, model: str, path: str) -> None:
        self.model = model
        self.path = path
        self._idle: list[_Connection] = []
        self._open = 0
        self._connecting: set[asyncio.Task[None]] = set()

    def send(self, request: Request, tell: Tell) -> None:
        """Pass a request on; ``tell`` is called once, with its answer or with why there is none."""
        exchange = _Exchange(_serialise(request), request.body, tell)
        if self._idle:
            self._idle.pop().send(exchange, fresh=False)
        elif self._open < MAX_CONNECTIONS:
            self._connect(exchange)
        else:
            text = f"model {self.model!r}: {MAX_CONNECTIONS} requests are under way, which is all that may"
            tell(ModelUnreachableError(text))

    def close(self) -> None:
        """Close what is idle; what is under way ends by itself."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _connect(self, exchange: "_Exchange") -> None:
        self._open += 1
        task = asyncio.get_running_loop().create_task(self._connect_and_send(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_and_send(self, exchange: "_Exchange") -> None:
        try:
            _, connection = await asyncio.get_running_loop().create_unix_connection(
                lambda: _Connection(self), self.path
            )
        except OSError as error:
            self._open -= 1
            exchange.tell(ModelUnreachableError(f"model {self.model!r} can't be reached: {error.strerror}"))
        else:
            connection.send(exchange, fresh=True)

    # What a connection tells.

    def free(self, connection: "_Connection") -> None:
        """It has been answered and may be used again."""
        self._idle.append(connection)

    def lost(self, connection: "_Connection", exchange: "_Exchange | None", *, again: bool) -> None:
        """It is closed; ``exchange`` was under way, ``again``: and may be sent once more."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if exchange is None:
            return
        if again:
            self._connect(exchange)
        else:
            text = f"model {self.model!r}: its runner went away before it had answered"
            exchange.tell(BrokenOffError(text))


class _Exchange:
    """One request on its way."""

    __slots__ = ("body", "head", "tell")

    def __init__(self, head: bytes, body: bytes, tell: Tell) -> None:
        self.head = head
        self.body = body
        self.tell = tell


class _Connection(asyncio.Protocol):
    def __init__(self, owner: Upstream) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None
        self._fresh = True
        self._heard = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    def send(self, exchange: _Exchange, *, fresh: bool) -> None:
        self._exchange = exchange
        self._fresh = fresh
        self._heard = False
        transport = self._transport
        assert transport is not None, "a lost connection is not idle"  # noqa: S101 - the owner forgets it at once
        if len(exchange.body) > _LARGE:
            transport.writelines([exchange.head, exchange.body])
        else:
            transport.write(exchange.head + exchange.body)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._give_up()

    def _give_up(self) -> None:
        # A runner that drains closes idle connections: a request that met its close is sent again, on a new connection.
        # One that was the first on its connection is not: whatever ended the runner may have been this request.
        exchange, self._exchange = self._exchange, None
        self._owner.lost(self, exchange, again=not self._fresh and not self._heard)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = HTTPStatus(self._parser.get_status_code())
        if status is HTTPStatus.CONTINUE:
            return
        exchange, self._exchange = self._exchange, None
        answer = _answer(status, self._headers, self._body)
        keep = self._parser.should_keep_alive()
        self._headers, self._body = {}, []
        if keep:
            self._owner.free(self)
        else:
            self.close()
        if exchange is not None:
            exchange.tell(answer)


def _serialise(request: Request) -> bytes:
    head = [b"%b %b HTTP/1.1\r\nHost: localhost\r\n%b: 1\r\n" % (request.method, request.path, FORWARDED)]
    headers = request.headers
    head += [b"%b: %b\r\n" % (name, headers[name]) for name in _KEPT_HEADERS if name in headers]
    head.append(b"Content-Length: %d\r\n\r\n" % len(request.body))
    return b"".join(head)


def _answer(status: HTTPStatus, headers: dict[bytes, bytes], body: list[bytes]) -> Answer:
    json_length = headers.get(b"inference-header-content-length")
    retry_after = headers.get(b"retry-after")
    return Answer(
        status,
        body,
        headers.get(b"content-type", JSON),
        None if json_length is None else int(json_length),
        headers.get(b"allow"),
        headers.get(b"content-encoding"),
        None if retry_after is None else int(retry_after),
    )
