"""Update machine and slots, as bytes by key, in ``state.db`` with its mirror: outlives a broken telemetry database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from agent.store.mirrored import MirroredStore
from agent.store.writer import Writer


class StateStore:
    """Asynchronous face of a :class:`~agent.store.mirrored.MirroredStore`.

    Reads answer from memory; a write has reached the disk, twice, when it returns.
    """

    def __init__(self, store: MirroredStore, writer: Writer) -> None:
        self._store = store
        self._writer = writer

    @classmethod
    async def open(cls, path: Path, writer: Writer) -> Self:
        """Open or create ``path``.

        Raises:
            DamagedError: neither it nor its mirror can be read.
        """
        return cls(await writer.run(lambda: MirroredStore(path)), writer)

    @property
    def restored(self) -> str | None:
        """What opening had to repair, in words."""
        return self._store.restored

    @property
    def problem(self) -> str | None:
        """What could not be repaired yet because the disk refuses, in words."""
        return self._store.problem

    async def get(self, key: str) -> bytes | None:
        return self._store.get(key)

    async def get_all(self, prefix: str = "") -> dict[str, bytes]:
        """Every value whose key starts with ``prefix``."""
        return {key: value for key, value in self._store.values().items() if key.startswith(prefix)}

    async def put(self, key: str, value: bytes) -> None:
        await self.put_many({key: value})

    async def put_many(self, values: Mapping[str, bytes | None]) -> None:
        """Set (or, by ``None``, remove) several keys: all of them or none."""
        await self._writer.run(lambda: self._store.write(values))

    async def close(self) -> None:
        await self._writer.run(self._store.close)
