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

from agent.supervisor.errors import AddressError

BACKLOG = 1024
"""Connections that may wait while nobody accepts; the kernel caps it at ``net.core.somaxconn``."""

_MAXIMUM_PATH_BYTES = 107
"""``sun_path`` is 108 bytes with its terminating zero (unix(7))."""

_RETRY_SECONDS = 0.05


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

    def __init__(self, model: str, unix_path: Path, private_folder: Path, lock_fd: int) -> None:
        self.model = model
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
        tcp: tuple[str, int] | None = None,
        unix_mode: int = 0o660,
        bind_timeout: float = 5.0,
    ) -> "ModelListeners":
        """Bind everything. Port 0 takes a free one (:attr:`tcp_address` says which).

        A Unix socket left by an earlier start is replaced; a lock file beside it tells a leftover from a socket that
        another agent is using. A TCP port that the runner of an earlier, killed agent still holds is waited for, up to
        ``bind_timeout`` seconds.

        Raises:
            AddressError: not loopback, taken, not a socket, too long, or not permitted; the text says which.
        """
        if tcp is not None:
            check_loopback(*tcp)
        _check_length(unix_path)
        _make_folder(unix_path.parent, 0o755)
        _make_folder(private_folder, 0o700)
        listeners = cls(model, unix_path, private_folder, _lock(unix_path))
        try:
            listeners._bind_public(unix_path, unix_mode)
            if tcp is not None:
                listeners._sockets.append(await _bind_tcp_within(tcp, bind_timeout))
        except BaseException:
            listeners.close()
            raise
        return listeners

    def _bind_public(self, path: Path, mode: int) -> None:
        self._sockets.append(_bind_unix(path, mode))
        self._inode = path.stat().st_ino

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The public listening sockets, non-blocking; the Unix one first."""
        return tuple(self._sockets)

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(each.fileno() for each in self._sockets)

    @property
    def tcp_address(self) -> tuple[str, int] | None:
        """Where TCP is listened on, if it is."""
        if len(self._sockets) == 1:
            return None
        host, port = self._sockets[1].getsockname()[:2]
        return str(host), int(port)

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
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def check_loopback(host: str, port: int) -> None:
    """Refuse what is not this machine alone.

    Raises:
        AddressError: ``host`` is not ``localhost`` or a loopback address, or ``port`` is out of range.
    """
    if not 0 <= port <= 65535:  # noqa: PLR2004 - the range of a TCP port
        raise AddressError(f"inference address {host}:{port}: the port must be 0-65535 (0: any free one)")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise AddressError(
            f"inference address {host}:{port}: only loopback is allowed (127.0.0.1, ::1 or localhost), because requests"
            " are neither encrypted nor authenticated; reach a device from elsewhere through a proxy that does both"
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


async def _bind_tcp_within(address: tuple[str, int], seconds: float) -> socket.socket:
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
