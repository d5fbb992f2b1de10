"""The local control socket: one JSON line in, one JSON line out, for the technician's CLI.

Who may use it is the file's mode (0660: its owner and group) and nothing else; the socket is never on a network.
"""

import asyncio
import contextlib
import logging
import os
import pwd
import socket
import sqlite3
import stat
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.protocol.codec import decode_json, encode_json
from agent.protocol.control import (
    DEFAULT_LIMIT,
    MAX_REQUEST_BYTES,
    MAX_RESPONSE_BYTES,
    AccuracyResult,
    BundleResult,
    ControlErrorCode,
    ControlProblem,
    ControlRequest,
    ControlResponse,
    ControlResult,
    DataResult,
    Done,
    DriftResult,
    EventsResult,
    LabelResult,
    ModelsResult,
    PlanResult,
    ReceiptResult,
    SampleFileResult,
    SamplesResult,
    StatusResult,
)
from agent.protocol.errors import MalformedMessageError, MessageTooLargeError
from agent.protocol.labels import Label
from agent.service.control_line import ControlClient, LineTooLongError
from agent.store.errors import StoreError

SOCKET_MODE = 0o660
ACCEPT_PAUSE_SECONDS = 1.0
_CREDENTIALS = "3i"
"""``struct ucred``: process, user and group id."""
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

    async def data(self) -> DataResult: ...

    async def samples(self, model: str | None, limit: int) -> SamplesResult: ...

    async def samples_clear(self, who: str) -> Done:
        """Delete every sample, and drop those that wait for the hub."""

    async def samples_export(self, after: str | None, who: str) -> SampleFileResult:
        """The first sample after this one, whole."""

    async def label(self, model: str | None, labels: Sequence[Label]) -> LabelResult:
        """Join labels, of the only model or of the one that is named (``unknown-model``)."""

    async def accuracy(self, model: str | None) -> AccuracyResult: ...

    async def hold(self, reason: str | None) -> Done: ...

    async def resume(self) -> Done: ...

    async def rollback(self, model: str, reason: str | None) -> Done:
        """Go back; ``unknown-model``, ``nothing-to-roll-back`` or ``busy`` where that can't be."""

    async def accept(self, model: str | None, *, now: bool, who: str) -> Done:
        """Let what waits be installed, of one model or of all; ``unknown-model`` or ``nothing-to-accept``."""

    async def sync(self) -> Done: ...

    async def bundle_install(self, descriptor: int) -> BundleResult:
        """Take over an open file and begin; ``not-a-bundle`` or ``busy`` where that can't be."""

    async def bundle_status(self) -> BundleResult: ...

    async def bundle_receipt(self) -> ReceiptResult:
        """``no-bundle`` or ``busy`` where there is none to write."""


class ControlServer:
    """Serves ``handler`` on a Unix socket.

    ``count`` is called with a kind (``control-malformed``, ``control-oversized``, ``control-internal``) for every
    request that could not be answered properly; a handler's :class:`ControlError` is an answer and is not counted.
    """

    def __init__(self, path: Path, handler: ControlHandler, count: Callable[[str], None]) -> None:
        self._path = path
        self._handler = handler
        self._count = count
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Bind and listen.

        Raises:
            OSError: the path can't be bound, or another agent listens on it.
        """
        self._listener = _bind(self._path)
        self._listener.listen()
        self._accepting = asyncio.create_task(self._accept(self._listener))

    async def close(self) -> None:
        """Stop listening, let go of every client, remove the socket."""
        if self._listener is None or self._accepting is None:
            return
        tasks = (self._accepting, *self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        self._listener = None
        self._path.unlink(missing_ok=True)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError as error:  # for instance too many open files: the technician tries again
                _log.warning("control connection not accepted", extra={"why": str(error)})
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._serve(ControlClient(connection, limit=MAX_REQUEST_BYTES)))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

    async def _serve(self, client: ControlClient) -> None:
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._converse(client)
        finally:
            client.close()

    async def _converse(self, client: ControlClient) -> None:
        go_on = True
        while go_on:
            response, go_on = await self._next(client)
            if response is None:
                return
            await client.send(self._encode(response) + b"\n")
        await client.hang_up()

    async def _next(self, client: ControlClient) -> tuple[ControlResponse | None, bool]:
        """Read one line and answer it; ``None`` at the end. After a line that is too long nothing can be read on."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                line = await client.line()
        except LineTooLongError:
            self._count("control-oversized")
            text = f"the request is over {MAX_REQUEST_BYTES} bytes, the most one line may have"
            return _problem("too-large", text), False
        if not line:
            return None, False
        return await self._answer(line, client), True

    async def _answer(self, line: bytes, client: ControlClient) -> ControlResponse:
        passed = _Passed(client.take_descriptor())
        try:
            return await self._done(line, passed, _who(client.connection))
        finally:
            passed.close()

    async def _done(self, line: bytes, passed: "_Passed", who: str) -> ControlResponse:
        try:
            request = decode_json(line, ControlRequest, limit=MAX_REQUEST_BYTES)
            call = self._dispatch(request, passed, who)
        except (MalformedMessageError, MessageTooLargeError) as error:
            self._count("control-malformed")
            return _problem("malformed", str(error))
        try:
            return ControlResponse(result=await call)
        except ControlError as error:
            return _problem(error.code, str(error))
        except (StoreError, sqlite3.Error) as error:
            self._count("control-internal")
            return _problem("internal", f"{request.method} can't be done now: {error}")
        except Exception:  # noqa: BLE001 - a technician gets an answer whatever fails, and the agent goes on
            self._count("control-internal")
            _log.exception("control request failed", extra={"method": request.method})
            return _problem("internal", f"{request.method} failed inside the agent; its log says why")

    def _dispatch(self, request: ControlRequest, passed: "_Passed", who: str) -> Awaitable[ControlResult]:
        handler, limit = self._handler, request.limit or DEFAULT_LIMIT
        calls: dict[str, Callable[[], Awaitable[ControlResult]]] = {
            "status": handler.status,
            "models": lambda: handler.models(request.model),
            "drift": lambda: handler.drift(request.model, limit),
            "events": lambda: handler.events(limit),
            "plan": handler.plan,
            "data": handler.data,
            "samples-show": lambda: handler.samples(request.model, limit),
            "samples-clear": lambda: handler.samples_clear(who),
            "samples-export": lambda: handler.samples_export(request.after, who),
            "label": lambda: handler.label(request.model, _some(request.labels)),
            "accuracy": lambda: handler.accuracy(request.model),
            "hold": lambda: handler.hold(request.reason),
            "resume": handler.resume,
            "rollback": lambda: handler.rollback(_needed(request.model), request.reason),
            "accept": lambda: handler.accept(request.model, now=request.now, who=who),
            "sync": handler.sync,
            "bundle-install": lambda: handler.bundle_install(passed.take()),
            "bundle-status": handler.bundle_status,
            "bundle-receipt": handler.bundle_receipt,
        }
        return calls[request.method]()

    def _encode(self, response: ControlResponse) -> bytes:
        try:
            return encode_json(response, limit=MAX_RESPONSE_BYTES)
        except MessageTooLargeError:
            self._count("control-oversized")
            text = f"the answer is over {MAX_RESPONSE_BYTES} bytes; ask for fewer with a lower limit"
            return encode_json(_problem("too-large", text))


class _Passed:
    """An open file that came with a request, until someone takes it over."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def take(self) -> int:
        """Raises MalformedMessageError where there is none."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise MalformedMessageError("ControlRequest: bundle-install needs an open file passed along")
        return descriptor

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _some(labels: Sequence[Label]) -> Sequence[Label]:
    if not labels:
        raise MalformedMessageError("ControlRequest: label needs `labels`")
    return labels


def _needed(model: str | None) -> str:
    if model is None:
        raise MalformedMessageError("ControlRequest: rollback needs `model`")
    return model


def _who(peer: socket.socket) -> str:
    """The user at the other end, as the kernel knows them: ``maria (uid 1000)``."""
    _pid, uid, _gid = struct.unpack(
        _CREDENTIALS, peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
    )
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


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
