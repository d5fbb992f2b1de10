"""Everything a device remembers, opened in whatever state it is: a device whose memory is damaged still serves.

================  ====================================================================================================
what is broken    what the device does
================  ====================================================================================================
``telemetry.db``  goes on without it, counts what it can't record, and has it made anew, or opened when the disk lets it
``state.db``      takes its mirror; both: serves what :class:`~agent.store.last_good.LastGood` says, and changes nothing
``trust.db``      takes its mirror; both: serves, and takes no desired state
================  ====================================================================================================
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from agent.core.model_state import ModelState
from agent.core.slots import InstalledRelease, Slots
from agent.enrolled import TRUST_FILE
from agent.protocol.state import Reason
from agent.protocol.verification import VerifyResult
from agent.service.desired import TrustPort
from agent.service.hold import KEY as HOLD_KEY
from agent.service.worker import state_key
from agent.store.artifacts import ArtifactStore
from agent.store.database import Database
from agent.store.durable_file import sweep_temporary
from agent.store.errors import DamagedError
from agent.store.keeper import DatabaseKeeper
from agent.store.last_good import LastGood
from agent.store.state import StateStore
from agent.store.trust_db import TrustDatabase, TrustState
from agent.store.writer import Writer

log = logging.getLogger(__name__)

STATE_DAMAGED, TRUST_DAMAGED, DISK_REFUSES = "state-damaged", "trust-damaged", "disk-refuses"
TELEMETRY_UNAVAILABLE = "telemetry-unavailable"


class RescuedState:
    """In place of a state store that is lost in both copies: what was committed last, and a hold that nothing ends.

    It can be read and not written, so nothing is decided that would be forgotten.
    """

    restored: str | None = None

    def __init__(self, last_good: dict[str, bytes], error: DamagedError) -> None:
        self._error = error
        self.problem: str | None = str(error)
        self._values = {}
        for model, data in last_good.items():
            release = msgspec.json.decode(data, type=InstalledRelease)
            slots = Slots(active=release, floor=release.release, committed=(release.release,))
            self._values[state_key(model)] = msgspec.json.encode(ModelState(model=model, slots=slots))
        text = "the device's own state is damaged in both copies: it serves what was committed last, and takes no update"
        self._values[HOLD_KEY] = msgspec.json.encode(Reason(code=STATE_DAMAGED, text=text))

    async def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    async def get_all(self, prefix: str = "") -> dict[str, bytes]:
        return {key: value for key, value in self._values.items() if key.startswith(prefix)}

    async def put(self, key: str, _value: bytes) -> None:
        """Raise the error that made this store necessary."""
        raise DamagedError(f"{key} can't be kept: {self._error}") from self._error

    async def put_many(self, values: Mapping[str, bytes | None]) -> None:
        """As :meth:`put`."""
        for key in values:
            await self.put(key, b"")

    async def close(self) -> None:
        """Nothing is open."""


class TrustStore:
    """The trust database through the writer thread; where it is lost in both copies, every use says so."""

    def __init__(self, database: TrustDatabase | DamagedError, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    @classmethod
    async def open(cls, path: Path, writer: Writer) -> "TrustStore":
        try:
            return cls(await writer.run(lambda: TrustDatabase(path)), writer)
        except DamagedError as error:
            log.exception("trust is damaged in both copies; no desired state is taken")
            return cls(error, writer)

    @property
    def restored(self) -> str | None:
        return None if isinstance(self._database, DamagedError) else self._database.restored

    @property
    def damaged(self) -> str | None:
        """Why no desired state can be verified."""
        return str(self._database) if isinstance(self._database, DamagedError) else None

    @property
    def problem(self) -> str | None:
        return None if isinstance(self._database, DamagedError) else self._database.problem

    @property
    def hub_time(self) -> float:
        """The newest time that the hub signed; 0: none, or lost."""
        return 0.0 if isinstance(self._database, DamagedError) else self._database.hub_time

    async def load(self) -> TrustState:
        database = self._require()
        return await self._writer.run(database.load)

    async def apply(self, result: VerifyResult) -> None:
        database = self._require()
        await self._writer.run(lambda: database.apply(result))

    async def close(self) -> None:
        if not isinstance(self._database, DamagedError):
            await self._writer.run(self._database.close)

    def _require(self) -> TrustDatabase:
        if isinstance(self._database, DamagedError):
            raise DamagedError(str(self._database)) from self._database
        return self._database


class TrustFace(TrustPort, Protocol):
    """As the verifier's port, and what is wrong with it."""

    @property
    def damaged(self) -> str | None: ...
    @property
    def problem(self) -> str | None: ...
    @property
    def hub_time(self) -> float: ...


class Memory(Struct, frozen=True, kw_only=True):
    """What a device remembers, open."""

    state: StateStore | RescuedState
    trust: TrustFace
    database: Database
    keeper: DatabaseKeeper
    artifacts: ArtifactStore
    last_good: LastGood
    notes: tuple[str, ...]
    """What opening had to repair, in words."""

    def problems(self) -> tuple[Reason, ...]:
        """What is wrong with it now."""
        found: list[Reason] = []
        if isinstance(self.state, RescuedState):
            found.append(Reason(code=STATE_DAMAGED, text=self.state.problem or ""))
        elif self.state.problem is not None:
            found.append(Reason(code=DISK_REFUSES, text=self.state.problem))
        if self.trust.damaged is not None:
            found.append(Reason(code=TRUST_DAMAGED, text=self.trust.damaged))
        elif self.trust.problem is not None:
            found.append(Reason(code=DISK_REFUSES, text=self.trust.problem))
        if self.keeper.problem is not None:
            found.append(
                Reason(code=TELEMETRY_UNAVAILABLE, text=f"nothing is recorded: {self.keeper.problem}")
            )
        return tuple(found)


async def open_memory(
    folder: Path,
    artifacts: ArtifactStore,
    prepare: Callable[[], Awaitable[str | None]],
    stack: AsyncExitStack,
    *,
    writer: Writer | None = None,
) -> Memory:
    """Open the stores in ``folder``; ``stack`` closes them.

    Args:
        prepare: makes or migrates the telemetry database, in a process of its own.
        writer: the thread for everything that is written, which stays the caller's; None: a new one.
    """
    if writer is None:
        writer = Writer()
        stack.push_async_callback(writer.close)
    last_good = LastGood(folder / "last-good")
    state = await _open_state(folder / "state.db", writer, last_good)
    stack.push_async_callback(state.close)
    trust = await TrustStore.open(folder / TRUST_FILE, writer)
    stack.push_async_callback(trust.close)
    database = Database(folder / "telemetry.db", writer)
    stack.push_async_callback(database.close)
    keeper = DatabaseKeeper(database, prepare)
    note = await keeper.bring()
    await asyncio.to_thread(_sweep, folder, artifacts)
    return Memory(
        state=state,
        trust=trust,
        database=database,
        keeper=keeper,
        artifacts=artifacts,
        last_good=last_good,
        notes=tuple(each for each in (note, state.restored, trust.restored) if each),
    )


async def _open_state(path: Path, writer: Writer, last_good: LastGood) -> StateStore | RescuedState:
    try:
        return await StateStore.open(path, writer)
    except DamagedError as error:
        log.exception("state is damaged in both copies; the releases that were committed last are served")
        return RescuedState(await writer.run(last_good.read), error)


def _sweep(folder: Path, artifacts: ArtifactStore) -> None:
    """What a power cut left half written."""
    try:
        for place in (folder, folder / "identity", folder / "last-good"):
            sweep_temporary(place)
        artifacts.sweep()
    except OSError as error:
        log.warning("leftovers not removed; the next start tries again", extra={"why": str(error)})
