"""Where metadata is kept: a protocol that the hub may also meet with its database, and a folder."""

import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from cloud_hub.durable import write_durably
from cloud_hub.signing.errors import RepositoryStateError

_FILE_NAME = re.compile(r"^(?:[1-9][0-9]{0,9}\.)?[a-z0-9][a-z0-9._-]{0,63}\.json$")
_LOCK = ".lock"


class MetadataStore(Protocol):
    """Files by name, such as ``1.root.json``, ``root.json`` (the newest), ``timestamp.json``, ``4.digits.json``."""

    def get(self, name: str) -> bytes | None:
        """The whole file, or None where there is none."""

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store all of them, in this order: a reader that sees the last one finds the others."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else publishes meanwhile: what is read inside still stands when it is written. May be nested."""


class FolderMetadataStore:
    """Metadata in one folder, each file durable before the next one is written. A running hub and a ceremony may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine = threading.RLock()
        self._depth = 0
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str) -> bytes | None:
        if not _FILE_NAME.fullmatch(name):
            return None
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def put_all(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            if not _FILE_NAME.fullmatch(name):
                raise RepositoryStateError(f"{name!r} is not a metadata file name")
            write_durably(self._folder / name, data)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._mine:
            if self._depth:
                yield
                return
            handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1
            finally:
                os.close(handle)
