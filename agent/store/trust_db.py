"""``trust.db``: the root of trust, verified metadata, high-water marks and hub-signed time.

Apart from telemetry, in one transaction a change, mirrored (:mod:`agent.store.mirrored`): python-tuf itself does not
sync its files, and with empty ones it would accept a rollback.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.protocol.verification import Mark, VerifyResult
from agent.store.errors import NotInitialisedError, StoreError
from agent.store.mirrored import MirroredStore

_ROOT, _MARKS, _TIME, _METADATA = "bootstrap-root", "marks", "hub-time", "metadata/"


class TrustState(Struct, frozen=True, kw_only=True):
    """What the verifier starts from."""

    root: bytes
    """Bootstrap ``root.json`` from enrolment; never changes."""
    metadata: dict[str, bytes]
    """Verified metadata by file name."""
    marks: tuple[Mark, ...]
    hub_time: float
    """Newest hub-signed time, Unix seconds; 0 before the first."""


class TrustDatabase:
    """Synchronous: call it through the writer (``await writer.run(lambda: trust.apply(result))``).

    Args:
        path: ``trust.db``.

    Raises:
        DamagedError: neither it nor its mirror can be read; nothing was changed.
    """

    def __init__(self, path: Path) -> None:
        self._store = MirroredStore(path)

    @property
    def restored(self) -> str | None:
        """What opening had to repair, in words."""
        return self._store.restored

    @property
    def problem(self) -> str | None:
        """What could not be repaired yet because the disk refuses, in words."""
        return self._store.problem

    @property
    def hub_time(self) -> float:
        """The newest hub-signed time, Unix seconds; 0 before the first. Reads no disk, from any thread."""
        return self._hub_time()

    def initialise(self, root: bytes, minimum: Iterable[Mark] = ()) -> None:
        """Put the root of trust and the marks of enrolment in.

        Raises:
            StoreError: there is another root already; trust is never replaced in place.
        """
        present = self._store.get(_ROOT)
        if present is not None:
            if present == root:
                return
            raise StoreError(
                f"{self._store.path}: holds another root of trust already; remove it to enrol anew"
            )
        self._store.write({_ROOT: root, _MARKS: msgspec.json.encode(_highest(minimum))})

    def load(self) -> TrustState:
        """Everything the verifier needs.

        Raises:
            NotInitialisedError: the device was not enrolled.
        """
        values = self._store.values()
        if _ROOT not in values:
            raise NotInitialisedError(f"{self._store.path}: no root of trust; enrol this device first")
        return TrustState(
            root=values[_ROOT],
            metadata={
                key.removeprefix(_METADATA): value
                for key, value in values.items()
                if key.startswith(_METADATA)
            },
            marks=self._marks(),
            hub_time=self._hub_time(),
        )

    def apply(self, result: VerifyResult) -> bool:
        """Store what was verified (metadata, marks, hub-signed time) in one transaction; returns whether anything changed.

        A mark only ever grows here, whatever the result says, and so does the hub's time, unless its keys were replaced.

        Raises:
            NotInitialisedError: the device was not enrolled.
        """
        if self._store.get(_ROOT) is None:
            raise NotInitialisedError(f"{self._store.path}: no root of trust; enrol this device first")
        wanted = {_METADATA + name: data for name, data in result.metadata.items()}
        wanted[_MARKS] = msgspec.json.encode(_highest((*self._marks(), *result.marks)))
        if result.hub_time is not None:
            stored = 0.0 if result.hub_time_replaced else self._hub_time()
            wanted[_TIME] = msgspec.json.encode(max(stored, result.hub_time))
        changes = {key: value for key, value in wanted.items() if self._store.get(key) != value}
        self._store.write(changes)
        return bool(changes)

    def close(self) -> None:
        self._store.close()

    def _marks(self) -> tuple[Mark, ...]:
        stored = self._store.get(_MARKS)
        return () if stored is None else msgspec.json.decode(stored, type=tuple[Mark, ...])

    def _hub_time(self) -> float:
        stored = self._store.get(_TIME)
        return 0.0 if stored is None else msgspec.json.decode(stored, type=float)


def _highest(marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """One mark a role and key set, the highest, in a stable order."""
    best: dict[tuple[str, str], Mark] = {}
    for mark in marks:
        present = best.get((mark.role, mark.keys))
        if present is None or mark.version > present.version:
            best[mark.role, mark.keys] = mark
    return tuple(best[key] for key in sorted(best))
