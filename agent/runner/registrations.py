"""The clients' shared memory registrations, in memory that a model's runners share: a swap forgets none.

Two copies of the table stand in it, and a number that says how often it has changed and so which copy holds: a runner
killed while it writes leaves the other one. Whoever reads or writes holds a lock that ends with its process.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import mmap
from struct import Struct as Layout

import msgspec

REGISTRATIONS_BYTES = 2 * 65_536
"""Of the memory: the number of changes, then twice a table behind its length."""

_CHANGES = Layout("=Q")
_LENGTH = Layout("=I")
_HALF = REGISTRATIONS_BYTES // 2
_AT = _CHANGES.size

Key = tuple[int | None, str]
"""Peer (uid; None over TCP) and name."""


class Registration(msgspec.Struct, frozen=True, array_like=True):
    """What a client has registered."""

    key: str
    """Of the shared memory object, as it was given, with or without ``/``."""
    offset: int
    """Bytes, into the object."""
    byte_size: int


Table = dict[Key, Registration]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int | None, str, Registration]]).decode


class Registrations:
    """The table."""

    def __init__(self, fd: int | None) -> None:
        """``fd``: of a memfd that the model's other runners have too, empty at first; None: nobody shares it."""
        self._fd = fd
        self._memory: mmap | bytearray = bytearray(REGISTRATIONS_BYTES)
        if fd is not None:
            os.ftruncate(fd, REGISTRATIONS_BYTES)
            self._memory = mmap(fd, REGISTRATIONS_BYTES)
        self._read = -1
        self._table: Table = {}

    @property
    def changes(self) -> int:
        """How often the table has changed, by whomever."""
        number: int = _CHANGES.unpack_from(self._memory)[0]
        return number

    def table(self) -> Table:
        """All of it, as it is now."""
        if self._read != self.changes:
            with self._locked():
                self._load()
        return self._table

    def change(self, apply: Callable[[Table], None]) -> None:
        """Let ``apply`` change the newest table; what it raises leaves everything as it was."""
        with self._locked():
            self._load()
            table = dict(self._table)
            apply(table)
            data = _encode([(peer, name, registration) for (peer, name), registration in table.items()])
            changes = self.changes + 1
            at = _AT + changes % 2 * _HALF
            _LENGTH.pack_into(self._memory, at, len(data))
            self._memory[at + _LENGTH.size : at + _LENGTH.size + len(data)] = data
            _CHANGES.pack_into(self._memory, 0, changes)
            self._read, self._table = changes, table

    def _load(self) -> None:
        changes = self.changes
        if self._read == changes:
            return
        at = _AT + changes % 2 * _HALF
        (length,) = _LENGTH.unpack_from(self._memory, at)
        entries = _decode(self._memory[at + _LENGTH.size : at + _LENGTH.size + length]) if changes else []
        self._table = {(peer, name): registration for peer, name, registration in entries}
        self._read = changes

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._fd is None:
            yield
            return
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
