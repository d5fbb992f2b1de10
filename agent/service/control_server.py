"""The local control socket: one JSON line in, one JSON line out, for the technician's CLI.

Who may use it is the file's mode (0660: its owner and group) and nothing else; the socket is never on a network.
"""

import asyncio
import contextlib
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.control import (
    DEFAULT_LIMIT,
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    ControlErrorCode,
    ControlProblem,
    ControlRequest,
    ControlResponse,
    ControlResult,
    Done,
    DriftResult,
    EventsResult,
    ModelsResult,
    PlanResult,
    StatusResult,
)
from agent.protocol.errors import MalformedMessageError, MessageTooLargeError

SOCKET_MODE = 0o660
IDLE_SECONDS = 60.0
"""A client that sends nothing for this long is let go."""

_log = logging.getLogger(__name__)


class ControlError(Exception):
    """A request that is well formed can't be done; the handler raises it, the technician reads its text."""

    def __init__(self, code: ControlErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class ControlHandler(Protocol):
    """What the agent does for a technician. Each method may raise :class:`ControlError`."""

    async def status(self) -> StatusResult: ...

    async def models(self, model: str | None) -> ModelsResult:
        """Every model, or the one asked for (``unknown-model``)."""

    async def drift(self, model: str | None, limit: int) -> DriftResult: ...

    async def events(self, limit: int) -> EventsResult: ...

    async def plan(self) -> PlanResult: ...

    async def hold(self, reason: str | None) -> Done: ...

    async def resume(self) -> Done: ...

    async def rollback(self, model: str, reason: str | None) -> Done:
        """Go back; ``unknown-model``, ``nothing-to-roll-back`` or ``busy`` where that can't be."""

    async def sync(self) -> Done: ...


class ControlServer:
    """Serves ``handler`` on a Unix socket.

    ``count`` is called with a kind (``control-malformed``, ``control-oversized``, ``control-internal``) for every
    request that could not be answered properly; a handler's :class:`ControlError` is an answer and is not counted.
    """

    def __init__(self, path: Path, handler: ControlHandler, count: Callable[[str], None]) -> None:
        self._path = path
        self._handler = handler
        self._count = count
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            OSError: the path can't be bound, or another agent listens on it.
        """
        listener = _bind(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST_BYTES)

    async def close(self) -> None:
        """Stop listening, let go of every client, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.CancelledError):
            await self._converse(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            response, go_on = await self._next(reader)
            if response is None:
                return
            writer.write(self._encode(response) + b"\n")
            await writer.drain()
            if not go_on:
                return

    async def _next(self, reader: asyncio.StreamReader) -> tuple[ControlResponse | None, bool]:
        """Read one line and answer it; ``None`` at the end. After a line that is too long nothing can be read on."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            if not end.partial:
                return None, False
            line = end.partial
        except asyncio.LimitOverrunError:
            self._count("control-oversized")
            text = f"the request is over {MAX_REQUEST_BYTES} bytes, the most one line may have"
            return _problem("too-large", text), False
        return await self._answer(line), True

    async def _answer(self, line: bytes) -> ControlResponse:
        try:
            request = decode_json(line, ControlRequest, limit=MAX_REQUEST_BYTES)
            call = self._dispatch(request)
        except (MalformedMessageError, MessageTooLargeError) as error:
            self._count("control-malformed")
            return _problem("malformed", str(error))
        try:
            return ControlResponse(result=await call)
        except ControlError as error:
            return _problem(error.code, str(error))
        except Exception:  # noqa: BLE001 - a technician gets an answer whatever fails, and the agent goes on
            self._count("control-internal")
            _log.exception("control request failed", extra={"method": request.method})
            return _problem("internal", f"{request.method} failed inside the agent; its log says why")

    def _dispatch(self, request: ControlRequest) -> Awaitable[ControlResult]:
        handler, limit = self._handler, request.limit or DEFAULT_LIMIT
        calls: dict[str, Callable[[], Awaitable[ControlResult]]] = {
            "status": handler.status,
            "models": lambda: handler.models(request.model),
            "drift": lambda: handler.drift(request.model, limit),
            "events": lambda: handler.events(limit),
            "plan": handler.plan,
            "hold": lambda: handler.hold(request.reason),
            "resume": handler.resume,
            "rollback": lambda: handler.rollback(_needed(request.model), request.reason),
            "sync": handler.sync,
        }
        return calls[request.method]()

    def _encode(self, response: ControlResponse) -> bytes:
        try:
            return encode_json(response, limit=MAX_RESPONSE_BYTES)
        except MessageTooLargeError:
            self._count("control-oversized")
            text = f"the answer is over {MAX_RESPONSE_BYTES} bytes; ask for fewer with a lower limit"
            return encode_json(_problem("too-large", text))


def _needed(model: str | None) -> str:
    if model is None:
        raise MalformedMessageError("ControlRequest: rollback needs `model`")
    return model


def _problem(code: ControlErrorCode, text: str) -> ControlResponse:
    return ControlResponse(error=ControlProblem(code=code, text=text))


def _bind(path: Path) -> socket.socket:
    """A socket bound at ``path``, with its mode set before anyone can connect."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        os.chmod(path, SOCKET_MODE)  # noqa: PTH101 - beside bind, which takes a plain path too
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket that a killed agent left; refuse one that still answers, and anything that is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(f"{path}: is there and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise OSError(f"{path}: another agent listens here")
