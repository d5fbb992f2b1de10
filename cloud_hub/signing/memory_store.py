"""Metadata that is not published yet, in memory."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext


class MemoryMetadataStore:
    """A :class:`cloud_hub.signing.store.MetadataStore` in a dict, which keeps the order of writing."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.files.get(name)

    def put_all(self, files: Mapping[str, bytes]) -> None:
        self.files.update(files)

    def exclusive(self) -> AbstractContextManager[None]:
        return nullcontext()
