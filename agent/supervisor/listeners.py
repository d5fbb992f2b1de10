"""A model's listening sockets. The supervisor owns them for its whole life; runners inherit them by descriptor.

Because a socket is never closed between two runners, a connection that arrives during a swap waits in its queue.
"""

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import itertools
import os
import socket
import time
from pathlib import Path

import msgspec

from agent.protocol.access import Access
from agent.supervisor import socket_group
from agent.supervisor.errors import AddressError

BACKLOG = 1024
"""Connections that may wait while nobody accepts; the kernel caps it at ``net.core.somaxconn``."""

_MAXIMUM_PATH_BYTES = 107
"""``sun_path`` is 108 bytes with its terminating zero (unix(7))."""

_RETRY_SECONDS = 0.05

LEDGER_BYTES = 4096
"""Debts of 256 users."""


class PrivateListener:
    """One slot's own Unix socket: a candidate answers there before it may answer anywhere else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = _bind_unix(path, 0o600)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """Close this process's copy; the runner keeps its own."""
        self._socket.close()

    def remove(self) -> None:
        """Close, and remove the path: the runner is gone."""
        self._socket.close()
        self.path.unlink(missing_ok=True)


class ModelListeners:
    """The public sockets of one model, and the folder of its private ones. Made by :meth:`open`."""

    def __init__(
        self, model: str, unix_path: Path, private_folder: Path, lock_fd: int, access: Access
    ) -> None:
        self.model = model
        self.access = _with_shared_memory(access)
        self.unix_path = unix_path
        self._private_folder = private_folder
        self._lock_fd = lock_fd
        self._numbers = itertools.count(1)
        self._sockets: list[socket.socket] = []
        self._inode: int | None = None

    @classmethod
    async def open(
        cls,
        model: str,
        *,
        unix_path: Path,
        private_folder: Path,
        tcp: tuple[str, int] | socket.socket | None = None,
        unix_mode: int = 0o660,
        group: str | None = None,
        access: Access | None = None,
        bind_timeout: float = 5.0,
    ) -> "ModelListeners":
        """Bind everything. Port 0 takes a free one (:attr:`tcp_address` says which).

        ``tcp`` may be a listening socket, which is then this model's.
        A Unix socket left by an earlier start is replaced; a lock file beside it tells a leftover from a socket that
        another agent is using. A TCP port that the runner of an earlier, killed agent still holds is waited for, up to
        ``bind_timeout`` seconds.

        ``group`` may use the Unix socket, and pass through its folder's parent to it; None: the agent's own.
        ``access`` is for the runners; TCP off loopback is listened on only where it has TLS.

        Raises:
            AddressError: not allowed, taken, not a socket, too long, or not permitted; the text says which.
        """
        _check_length(unix_path)
        _make_folder(unix_path.parent, 0o755)
        _make_folder(private_folder, 0o700)
        if group is not None:
            socket_group.give(unix_path.parent, group, 0o750)
            socket_group.let_through(unix_path.parent.parent, group)
        listeners = cls(model, unix_path, private_folder, _lock(unix_path), access or Access())
        try:
            listeners._bind_public(unix_path, unix_mode, group)
            if tcp is not None:
                listener = (
                    tcp
                    if isinstance(tcp, socket.socket)
                    else await bind_tcp(tcp, bind_timeout, tls=listeners.access.tls is not None)
                )
                listeners._sockets.append(listener)
        except BaseException:
            listeners.close()
            raise
        return listeners

    def _bind_public(self, path: Path, mode: int, group: str | None) -> None:
        self._sockets.append(_bind_unix(path, mode if group is None else 0o600))
        self._inode = path.stat().st_ino
        if group is not None:
            socket_group.give(path, group, mode)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The public listening sockets, non-blocking; the Unix one first."""
        return tuple(self._sockets)

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(each.fileno() for each in self._sockets)

    @property
    def inherited_fds(self) -> tuple[int, ...]:
        """What a runner is given: the public sockets, and the memory that it shares with the next one."""
        return (*self.fds, *self._memory_fds())

    def _memory_fds(self) -> tuple[int, ...]:
        memory = (self.access.ledger_fd, self.access.registrations_fd)
        return tuple(fd for fd in memory if fd is not None)

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Where TCP is listened on, if it is."""
        if len(self._sockets) == 1:
            return None
        host, port = self._sockets[1].getsockname()[:2]
        return str(host), int(port)

    @property
    def tcp_socket(self) -> socket.socket | None:
        """The listening TCP socket, where there is one."""
        return self._sockets[1] if len(self._sockets) > 1 else None

    def surrender_tcp(self) -> socket.socket | None:
        """The TCP socket, which is not this model's any more; None where it has none."""
        return self._sockets.pop() if len(self._sockets) > 1 else None

    def private(self) -> PrivateListener:
        """A new private socket, with a path of its own.

        Raises:
            AddressError: the path is too long, or the system refuses.
        """
        return PrivateListener(self._private_folder / f"{self.model}.{next(self._numbers)}.sock")

    def close(self) -> None:
        """Close and remove the public sockets; clients are refused from now on."""
        for each in self._sockets:
            each.close()
        self._sockets.clear()
        with contextlib.suppress(FileNotFoundError):
            if self._inode is not None and self.unix_path.stat().st_ino == self._inode:
                self.unix_path.unlink()
        self._inode = None
        for fd in self._memory_fds():
            os.close(fd)
        self.access = msgspec.structs.replace(self.access, ledger_fd=None, registrations_fd=None)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _with_shared_memory(access: Access) -> Access:
    """With memory for what the model's runners leave to each other: it outlives them, not the agent."""
    ledger = None
    if access.query_budget is not None:
        ledger = os.memfd_create("query-ledger")
        os.ftruncate(ledger, LEDGER_BYTES)
    registrations = os.memfd_create("registrations")  # empty: the first runner says how long it is
    return msgspec.structs.replace(access, ledger_fd=ledger, registrations_fd=registrations)


def check_address(host: str, port: int, *, tls: bool) -> None:
    """Refuse what anybody else could listen in on.

    Raises:
        AddressError: without TLS, ``host`` is not ``localhost`` or a loopback address; with it, not an address of any
            kind; or ``port`` is out of range.
    """
    if not 0 <= port <= 65535:  # noqa: PLR2004 - the range of a TCP port
        raise AddressError(f"inference address {host}:{port}: the port must be 0-65535 (0: any free one)")
    if host == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise AddressError(
            f"inference address {host}:{port}: expected an IP address of this device, or localhost; not a name"
        ) from None
    if not loopback and not tls:
        raise AddressError(
            f"inference address {host}:{port}: without TLS only loopback is allowed (127.0.0.1, ::1 or localhost),"
            " because whoever is on the way could read and change requests; set serving.tls"
        )


def _make_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise AddressError(f"folder of inference sockets {folder}: {error.strerror}") from error


def _check_length(path: Path) -> None:
    size = len(os.fsencode(path))
    if size > _MAXIMUM_PATH_BYTES:
        raise AddressError(f"Unix socket {path}: {size} bytes, at most {_MAXIMUM_PATH_BYTES} are allowed")


def _lock(path: Path) -> int:
    """A lock that dies with this process (runners do not inherit it), so a leftover socket never looks alive."""
    try:
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise AddressError(f"Unix socket {path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise AddressError(f"Unix socket {path}: another agent is using it") from error
    return fd


def _bind_unix(path: Path, mode: int) -> socket.socket:
    _check_length(path)
    if path.exists() and not path.is_socket():
        raise AddressError(f"Unix socket {path}: something that is not a socket is there; move it away first")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        # Nobody may connect between bind and chmod.
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(path))
        finally:
            os.umask(before)
        path.chmod(mode)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(f"Unix socket {path}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


async def bind_tcp(address: tuple[str, int], seconds: float, *, tls: bool = False) -> socket.socket:
    """Listen on an address, non-blocking; one that is still taken is waited for, so many ``seconds``.

    ``tls``: what is accepted there speaks TLS, so it need not be loopback.

    Raises:
        AddressError: not allowed, taken, or not permitted.
    """
    check_address(*address, tls=tls)
    deadline = time.monotonic() + seconds
    while True:
        try:
            return _bind_tcp(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                host, port = address
                raise AddressError(f"inference address {host}:{port}: {error.strerror}") from error
        await asyncio.sleep(_RETRY_SECONDS)


def _bind_tcp(address: tuple[str, int]) -> socket.socket:
    host, port = address
    literal = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in literal else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it on Linux: an answer never waits for Nagle's timer.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((literal, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
