"""Where metadata is kept: a protocol that the hub may also meet with its database, and a folder."""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from cloud_hub.signing.errors import RepositoryStateError

_FILE_NAME = re.compile(r"^(?:[1-9][0-9]{0,9}\.)?[a-z0-9][a-z0-9._-]{0,63}\.json$")


class MetadataStore(Protocol):
    """Files by name, such as ``1.root.json``, ``root.json`` (the newest), ``timestamp.json``, ``4.digits.json``."""

    def get(self, name: str) -> bytes | None:
        """The whole file, or None where there is none."""

    def put_all(self, files: Mapping[str, bytes]) -> None:
        """Store all of them, in this order: a reader that sees the last one finds the others."""


class FolderMetadataStore:
    """Metadata in one folder, each file durable before the next one is written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
            self._put(name, data)

    def _put(self, name: str, data: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._folder / name)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
