"""Tensors in POSIX shared memory: regions that clients register, as in Triton's system shared memory extension.

A region is a file in ``/dev/shm``. It is read and written with ``pread`` and ``pwrite`` and never mapped: its owner can
shorten it at any moment, and a mapped page that is gone kills the process that touches it (SIGBUS), where ``pread``
gives fewer bytes (docs/decisions/0012). A region belongs to the user who registered it: nobody else sees or uses it.
"""

import errno
import os
import stat
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from agent.protocol.runner import SharedMemoryAccess
from agent.runner.errors import RequestError, UnknownTargetError
from agent.runner.registrations import Key, Registration, Registrations, Table

MAX_REGIONS = 64
"""Of all clients together; each holds a descriptor."""

MAX_NAME_BYTES = 255
"""Of a region's name and of its key."""

FOLDER = Path("/dev/shm")  # noqa: S108 (where shm_open(3) puts them)

_ROOT = 0


class Region(NamedTuple):
    """One registration, and the object it is a part of."""

    name: str
    registration: Registration
    fd: int
    writable: bool


class Regions:
    """What clients have registered. ``peer`` is always the uid of who asks; None over TCP, where nobody knows."""

    def __init__(
        self,
        access: SharedMemoryAccess,
        *,
        maximum_bytes: int,
        folder: Path = FOLDER,
        registrations: Registrations | None = None,
    ) -> None:
        """``maximum_bytes``: of one tensor, as of a request's body."""
        self._access = access
        self._maximum_bytes = maximum_bytes
        self._folder = folder
        self._registrations = registrations or Registrations(None)
        self._changes = self._registrations.changes
        self._opened: dict[Key, Region] = {}

    @property
    def enabled(self) -> bool:
        """Whether anyone may register anything."""
        return self._access != "off"

    def register(self, peer: int | None, name: str, *, key: str, offset: int, byte_size: int) -> None:
        """Open a region for this peer.

        Raises:
            RequestError: 403: not for this peer; 404: no such object; 400: anything else.
        """
        self._check_peer(peer)
        if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise RequestError(f"shared memory: a region's name has 1 to {MAX_NAME_BYTES} bytes")
        registration = Registration(key, offset, byte_size)

        def add(table: Table) -> None:
            if (peer, name) in table:
                raise RequestError(
                    f"shared memory region {name!r} is registered already; unregister it first"
                )
            if len(table) >= MAX_REGIONS:
                raise RequestError(
                    f"shared memory region {name!r}: {MAX_REGIONS} are registered, which is all that may"
                )
            region = self._open(peer, name, registration)
            if (stale := self._opened.pop((peer, name), None)) is not None:
                os.close(stale.fd)
            self._opened[peer, name] = region
            table[peer, name] = registration

        self._forget_changed()
        self._registrations.change(add)
        self._changes = self._registrations.changes

    def _check_peer(self, peer: int | None) -> None:
        if self._access == "off":
            raise RequestError(
                "shared memory is switched off here; the agent's setting serving.shared_memory allows it",
                HTTPStatus.FORBIDDEN,
            )
        if peer is None and self._access != "unix+tcp":
            raise RequestError(
                "shared memory is not allowed over TCP, where nobody knows who asks; use the model's Unix socket",
                HTTPStatus.FORBIDDEN,
            )

    def _open(self, peer: int | None, name: str, registration: Registration) -> Region:
        fd, writable = self._open_object(registration.key)
        try:
            _check_object(fd, peer, name, registration)
        except RequestError:
            os.close(fd)
            raise
        return Region(name, registration, fd, writable)

    def _open_object(self, key: str) -> tuple[int, bool]:
        leaf = key.removeprefix("/")
        if leaf in {"", ".", ".."} or "/" in leaf or "\0" in leaf or len(leaf.encode()) > MAX_NAME_BYTES:
            raise RequestError(
                f"shared memory key {key!r}: expected '/' and a name of 1 to {MAX_NAME_BYTES} bytes without '/'"
            )
        path = self._folder / leaf
        try:
            try:
                return _opened(path, os.O_RDWR), True
            except PermissionError:
                return _opened(path, os.O_RDONLY), False
        except OSError as error:
            raise _refusal(key, error) from error

    def status(self, peer: int | None, name: str | None = None) -> dict[str, Registration]:
        """This peer's regions, or the one of that name.

        Raises:
            UnknownTargetError: there is none of that name.
        """
        table = self._registrations.table()
        if name is not None and (peer, name) not in table:
            raise _unknown(name)
        return {
            known: entry for (owner, known), entry in table.items() if owner == peer and name in {None, known}
        }

    def unregister(self, peer: int | None, name: str | None = None) -> None:
        """Forget this peer's region of that name, or all of them; it is no error if there is none."""

        def remove(table: Table) -> None:
            for owner, known in tuple(table):
                if owner == peer and name in {None, known}:
                    del table[owner, known]

        self._registrations.change(remove)
        self._forget_changed()

    def _forget_changed(self) -> None:
        """Close what is registered no more, or otherwise, by whichever runner that was done."""
        table = self._registrations.table()
        for key, region in tuple(self._opened.items()):
            if table.get(key) != region.registration:
                os.close(self._opened.pop(key).fd)
        self._changes = self._registrations.changes

    def close(self) -> None:
        """Close everything; the registrations stay for the model's next runner."""
        for region in self._opened.values():
            os.close(region.fd)
        self._opened.clear()

    def read(self, peer: int | None, name: str, offset: int, size: int) -> bytes:
        """A copy of ``size`` bytes from ``offset`` into the region.

        Raises:
            RequestError: outside the region, or the region is shorter than it was.
        """
        region = self.check(peer, name, offset, size)
        data = os.pread(region.fd, size, region.registration.offset + offset)
        if len(data) != size:
            raise _shrunk(region)
        return data

    def write(self, peer: int | None, name: str, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset`` into the region.

        Raises:
            RequestError: outside the region, may not be written to, or shorter than it was.
        """
        region = self.check(peer, name, offset, len(data))
        if not region.writable:
            raise RequestError(
                f"shared memory region {name!r}: the agent's user may read {region.registration.key!r}, not write to it",
                HTTPStatus.FORBIDDEN,
            )
        start = region.registration.offset + offset
        # Writing would lengthen it again. (If it shrinks between these two lines, that is all that happens.)
        if os.fstat(region.fd).st_size < start + len(data):
            raise _shrunk(region)
        try:
            written = os.pwrite(region.fd, data, start)
        except OSError as error:  # no memory left for its pages
            raise RequestError(f"shared memory region {name!r}: {error.strerror}") from error
        if written != len(data):
            raise RequestError(f"shared memory region {name!r}: no memory left for it")

    def check(self, peer: int | None, name: str, offset: int, size: int) -> Region:
        """The region that holds ``size`` bytes from ``offset``.

        Raises:
            RequestError: there is none, or not all of them are in it.
        """
        region = self._find(peer, name)
        if size < 0 or offset < 0 or offset + size > region.registration.byte_size:
            raise RequestError(
                f"shared memory region {name!r}: {size} bytes from {offset} are outside "
                f"its {region.registration.byte_size} bytes"
            )
        if size > self._maximum_bytes:
            raise RequestError(
                f"shared memory region {name!r}: {size} bytes for one tensor, at most {self._maximum_bytes} are allowed",
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            )
        return region

    def _find(self, peer: int | None, name: str) -> Region:
        if self._changes != self._registrations.changes:
            self._forget_changed()
        region = self._opened.get((peer, name))
        if region is not None:
            return region
        self._check_peer(peer)
        registration = self._registrations.table().get((peer, name))
        if registration is None:
            raise _unknown(name)
        region = self._opened[peer, name] = self._open(peer, name, registration)  # the runner before had it
        return region


def _unknown(name: str) -> UnknownTargetError:
    return UnknownTargetError(
        f"shared memory region {name!r} is not registered by you; the agent's restart forgets what was"
    )


def _opened(path: Path, mode: int) -> int:
    # Without O_NONBLOCK a FIFO of that name would keep everybody waiting.
    return os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY)


def _refusal(key: str, error: OSError) -> RequestError:
    if isinstance(error, FileNotFoundError):
        return UnknownTargetError(f"shared memory key {key!r}: there is no such object")
    if isinstance(error, PermissionError):
        return RequestError(
            f"shared memory key {key!r}: the agent's user may not open it (clients create it for themselves alone; "
            "give the agent's user or group access)",
            HTTPStatus.FORBIDDEN,
        )
    what = "a link" if error.errno == errno.ELOOP else error.strerror
    return RequestError(f"shared memory key {key!r}: {what}")


def _check_object(fd: int, peer: int | None, name: str, registration: Registration) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise RequestError(f"shared memory region {name!r}: not a shared memory object")
    if peer not in {None, _ROOT, status.st_uid}:
        raise RequestError(
            f"shared memory region {name!r}: it belongs to user {status.st_uid}, you are user {peer}",
            HTTPStatus.FORBIDDEN,
        )
    offset, byte_size = registration.offset, registration.byte_size
    if offset < 0 or byte_size <= 0 or offset + byte_size > status.st_size:
        raise RequestError(
            f"shared memory region {name!r}: offset and byte_size must be a part of the object's "
            f"{status.st_size} bytes"
        )


def _shrunk(region: Region) -> RequestError:
    return RequestError(
        f"shared memory region {region.name!r}: {region.registration.key!r} is shorter than it was"
    )
