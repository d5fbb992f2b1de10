"""Accepts connections on inherited sockets, and drains without losing a request.

The listening sockets are shared with other processes, so this one only stops watching them and closes its own copy
of the descriptor: ``asyncio``'s server would close, and on Python 3.13 unlink, what the successor is using.
"""

import asyncio
import errno
import logging
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable

from agent.web.connection import HttpConnection, Peer
from agent.web.messages import Answer, Handler, Pending, Request
from agent.web.tls import HANDSHAKE_SECONDS, SHUTDOWN_SECONDS

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
"""Open at once; the others wait in the listen queue."""

MAX_TCP_CONNECTIONS = 384
"""Of these, over TCP: who comes from elsewhere can't take the places of the device's own users."""

_ACCEPTS_A_TURN = 16
"""Connections taken at once from one socket, so that open ones are answered in between."""

_RETRY_SECONDS = 0.2
_CLOSING_SECONDS = 5.0
"""For clients that are in the middle of a request, or don't read their answer, when draining ends."""

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Server:
    """HTTP on any number of listening sockets."""

    def __init__(
        self,
        handler: Handler,
        *,
        maximum_body_bytes: int,
        refused: Callable[[], None] = lambda: None,
        hosts: Iterable[str] = (),
    ) -> None:
        """``hosts``: names that clients may call TCP addresses by, beside the address itself and the loopback names."""
        self.maximum_body_bytes = maximum_body_bytes
        self.hosts = frozenset(hosts)
        self.draining = False
        self.closing = False
        self._tcp_yielded = False
        self._handler = handler
        self._refused = refused
        self._listeners: list[socket.socket] = []
        self._tls: dict[socket.socket, ssl.SSLContext] = {}
        self._connections: set[HttpConnection] = set()
        self._opening: dict[asyncio.Task[None], bool] = {}
        """Not connections yet; and whether they come over TCP."""
        self._nobody_left = asyncio.Event()
        self._nobody_left.set()
        self._watched: set[socket.socket] = set()

    # What a connection needs (agent.web.connection.Owner).

    def answer(self, request: Request) -> Answer | Pending:
        """Answer one request."""
        return self._handler(request)

    def refuse(self) -> None:
        """Count a request that was refused before it could be answered."""
        self._refused()

    def opened(self, connection: HttpConnection) -> None:
        """A connection exists."""
        self._connections.add(connection)
        if self._tcp_yielded:
            connection.leave_tcp()
        if self.closing:
            connection.close_if_idle()

    def closed(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._watch()
        self._tell_if_nobody_left()

    # Listening.

    def listen(self, fd: int, *, tls: ssl.SSLContext | None = None) -> None:
        """Accept on an inherited listening socket; this process's copy of the descriptor belongs to the server now.

        With ``tls`` a TCP socket speaks TLS and nothing else; on a Unix socket nobody listens in, so it stays as it is.
        """
        listener = socket.socket(fileno=fd)
        if self._tcp_yielded and listener.family != socket.AF_UNIX:
            listener.close()
            return
        listener.setblocking(False)
        if tls is not None and listener.family != socket.AF_UNIX:
            self._tls[listener] = tls
        self._listeners.append(listener)
        self._watch()

    def yield_tcp(self) -> None:
        """Somebody else accepts over TCP from now on: stop, and close each connection after its next answer."""
        self._tcp_yielded = True
        for listener in [each for each in self._listeners if each.family != socket.AF_UNIX]:
            self._watch_or_not(listener, wanted=False)
            self._listeners.remove(listener)
            listener.close()
        for connection in self._connections:
            connection.leave_tcp()

    def _watch(self) -> None:
        """Accept exactly while there is room and nobody has said stop."""
        for listener in self._listeners:
            self._watch_or_not(listener, wanted=not self.draining and self._has_room(listener))

    def _watch_or_not(self, listener: socket.socket, *, wanted: bool) -> None:
        if wanted == (listener in self._watched):
            return
        if wanted:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)
            self._watched.add(listener)
        else:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            self._watched.remove(listener)

    def _has_room(self, listener: socket.socket) -> bool:
        taken = len(self._connections) + len(self._opening)
        if listener.family == socket.AF_UNIX or taken < MAX_TCP_CONNECTIONS:
            return taken < MAX_CONNECTIONS
        over_tcp = sum(each.over_tcp for each in self._connections) + sum(self._opening.values())
        return taken < MAX_CONNECTIONS and over_tcp < MAX_TCP_CONNECTIONS

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if not self._has_room(listener):
                break
            try:
                client, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            client.setblocking(False)
            if client.family != socket.AF_UNIX:
                # A large answer is several segments: the last one must not wait for an acknowledgement.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._nobody_left.clear()
            task = asyncio.get_running_loop().create_task(self._open(client, self._tls.get(listener)))
            self._opening[task] = client.family != socket.AF_UNIX
            task.add_done_callback(self._opening_done)
        self._watch()

    def _pause_accepting(self, error: OSError) -> None:
        """Without descriptors or memory the socket stays readable; watching it would burn the core."""
        if error.errno not in _OUT_OF_RESOURCES:
            raise error
        _log.warning("can't accept a connection", extra={"error": str(error)})
        for listener in self._listeners:
            self._watch_or_not(listener, wanted=False)
        asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._watch)

    async def _open(self, client: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            peer = _peer(client)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: HttpConnection(self, peer),
                client,
                ssl=tls,
                ssl_handshake_timeout=None if tls is None else HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=None if tls is None else SHUTDOWN_SECONDS,
            )
        except OSError as error:
            client.close()  # gone before it was looked at
            if isinstance(error, ssl.SSLError | ConnectionAbortedError):
                self._refused()  # no TLS, no certificate that is good enough, or no end to its handshake

    def _opening_done(self, task: asyncio.Task[None]) -> None:
        del self._opening[task]
        self._watch()
        self._tell_if_nobody_left()

    def _tell_if_nobody_left(self) -> None:
        if not self._connections and not self._opening:
            self._nobody_left.set()

    # Leaving.

    async def drain(self, idle_seconds: float) -> int:
        """Stop accepting, say ``Connection: close`` with each further answer, and wait until every client has gone.

        Whatever had arrived is answered first: pipelined requests all are, and the last answer says it. A client that is still
        idle after ``idle_seconds`` is cut, unless a request of it has come by then. One that sends in the microseconds between
        that look and the close is reset and can't know whether it was heard; HTTP has no way around it. geventhttpclient 2.6,
        in tritonclient, looks before it sends and connects anew where it was cut, and never sends a POST twice by itself.

        Returns:
            how many clients were still idle after ``idle_seconds`` and had to be cut.
        """
        self._stop_listening()
        if await self._nobody_left_within(idle_seconds):
            return 0
        self.closing = True
        cut = sum([connection.close_if_idle() for connection in tuple(self._connections)])
        if not await self._nobody_left_within(_CLOSING_SECONDS):
            _log.warning("cut clients in the middle of a request", extra={"clients": len(self._connections)})
            self.abort()
        return cut

    def abort(self) -> None:
        """Stop accepting and cut every connection."""
        self._stop_listening()
        for connection in tuple(self._connections):
            connection.abort()

    def sweep(self) -> None:
        """Cut clients that are too slow; call it every few seconds."""
        now = time.perf_counter()
        for connection in tuple(self._connections):
            connection.cut_if_slow(now)

    def _stop_listening(self) -> None:
        self.draining = True
        self._watch()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    async def _nobody_left_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._nobody_left.wait()
        except TimeoutError:
            return False
        return True


def _peer(client: socket.socket) -> Peer:
    if client.family != socket.AF_UNIX:
        return Peer(over_tcp=True)
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    return Peer(over_tcp=False, uid=uid)
