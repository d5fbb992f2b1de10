"""The device's one TCP address: nobody's while there is no model, its runner's with one, the front's with more."""

import contextlib
import logging
import socket
from collections.abc import Callable, Mapping

from agent.protocol.access import TlsFiles
from agent.protocol.state import Reason
from agent.supervisor.errors import AddressError, FrontStartError
from agent.supervisor.front import Front
from agent.supervisor.listeners import bind_tcp
from agent.supervisor.model_server import ModelServer
from agent.supervisor.placeholder import Placeholder
from agent.web.tls import TlsError, server_context

_log = logging.getLogger(__name__)

BIND_SECONDS = 5.0
"""For a port that a child of an earlier, killed agent still holds."""

NO_MODEL = "no model is assigned to this device yet"


class DeviceAddress:
    """Made by :meth:`open`. The socket is never closed between two owners: who connects meanwhile waits in its queue."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        tls: TlsFiles | None,
        hosts: tuple[str, ...],
        maximum_body_bytes: int,
        on_front_death: Callable[[Reason], None] | None,
    ) -> None:
        self._tls = tls
        self._hosts = hosts
        self._maximum_body_bytes = maximum_body_bytes
        self._on_front_death = on_front_death
        self._free: socket.socket | None = listener
        self._placeholder = Placeholder((listener,), tls=self._tls)
        self._front: Front | None = None
        self._address = listener.getsockname()[:2]

    @classmethod
    async def open(
        cls,
        address: tuple[str, int],
        *,
        tls: TlsFiles | None = None,
        hosts: tuple[str, ...] = (),
        maximum_body_bytes: int,
        on_front_death: Callable[[Reason], None] | None = None,
        bind_seconds: float = BIND_SECONDS,
    ) -> "DeviceAddress":
        """Listen, and answer 503 until there is a model.

        Raises:
            AddressError: not loopback and without TLS, taken, not permitted, or TLS's files can't be used.
        """
        _check_tls(tls)
        listener = await bind_tcp(address, bind_seconds, tls=tls is not None)
        opened = cls(
            listener,
            tls=tls,
            hosts=hosts,
            maximum_body_bytes=maximum_body_bytes,
            on_front_death=on_front_death,
        )
        opened._placeholder.resume(NO_MODEL)
        return opened

    @property
    def tcp_address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._address
        return str(host), int(port)

    @property
    def front_pid(self) -> int | None:
        """Of the front, where there is one."""
        return None if self._front is None else self._front.pid

    def take(self) -> socket.socket | None:
        """The listening socket for the device's only model; None where it is somebody's already."""
        listener, self._free = self._free, None
        if listener is not None:
            self._placeholder.drop(listener)
        return listener

    def give_back(self, listener: socket.socket) -> None:
        """It was taken for a model that could not be opened."""
        self._free = listener
        self._placeholder = Placeholder((listener,), tls=self._tls)
        self._placeholder.resume(NO_MODEL)

    async def share(self, servers: Mapping[str, ModelServer]) -> None:
        """Let the front answer, for two models or more; again with others to change them. With fewer, nothing.

        A front that can't be started is logged and tried again at the next call: until then whoever had the address keeps it.
        """
        paths = {name: str(server.listeners.unix_path) for name, server in servers.items()}
        if self._front is not None:
            await self._front.serve(paths)
            return
        if len(servers) < 2:  # noqa: PLR2004 - that is what a front is for
            return
        owner = next((server for server in servers.values() if server.listeners.tcp_socket), None)
        listener = self._free if owner is None else owner.listeners.tcp_socket
        assert listener is not None, "somebody has it"  # noqa: S101 - take() and surrender_tcp() see to it
        front = Front(
            listener,
            maximum_body_bytes=self._maximum_body_bytes,
            tls=self._tls,
            hosts=self._hosts,
            on_death=self._on_front_death,
        )
        try:
            await front.start(paths)
        except FrontStartError as error:
            _log.exception("no front")
            if self._on_front_death is not None:
                self._on_front_death(error.reason)
            return
        self._front = front
        if owner is not None:
            await owner.surrender_tcp()
        else:
            self._placeholder.drop(listener)
        self._free = listener

    async def close(self) -> None:
        """End the front and close the socket, unless it is a model's: then it closes with it."""
        if self._front is not None:
            await self._front.stop()
        await self._placeholder.close()
        if self._free is not None:
            with contextlib.suppress(OSError):
                self._free.close()
            self._free = None


def _check_tls(tls: TlsFiles | None) -> None:
    try:
        if tls is not None:
            server_context(tls)
    except TlsError as error:
        raise AddressError(f"inference address: {error}") from error
