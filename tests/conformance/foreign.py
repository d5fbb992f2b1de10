"""A device's own trust code on a repository that is not Edgeward's: what every way to the hub shares."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Root, Snapshot, TargetFile, Timestamp

from agent.core.trusted_time import trusted_time
from agent.protocol.verification import FetchedMetadata, VerifyResult
from agent.store.durable_file import write_durable
from agent.store.trust_db import TrustDatabase
from agent.transport.sources import ByteWriter
from agent.trust.marks import KeySet, MarkBook
from agent.trust.repository import TrustedRepository

T = TypeVar("T")


class Way(Protocol):
    """One way to a repository's bytes."""

    async def metadata(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        """What the verifier's parent answers on a device."""
        ...

    async def artifact(self, target: TargetFile, path: str, writer: ByteWriter) -> None:
        """Append the bytes of a target; ``path``: under the base of targets. Raises TransferError."""
        ...


class MemoryWriter:
    """A :class:`agent.transport.sources.ByteWriter`."""

    def __init__(self) -> None:
        self.data = b""

    @property
    def offset(self) -> int:
        return len(self.data)

    async def append(self, data: bytes) -> None:
        self.data += data


class SpecificationRepository(TrustedRepository):
    """Takes an older targets role when the snapshot's keys were rotated, as the specification (5.3.11) demands.

    An Edgeward device does not: its approvers' marks outlive the hub's online keys, or whoever steals those twice could
    bring a withdrawn release back.
    """

    def mark_name(self, role: str) -> str:
        if role in {Root.type, Timestamp.type, Snapshot.type}:
            return role
        listed_by = KeySet.of(self.root, Snapshot.type).text
        return f"{role} listed by {hashlib.sha256(listed_by.encode()).hexdigest()}"


class ForeignRepository:
    """One refresh, and look-ups after it, from what ``trust.db`` holds; nothing is stored before :meth:`result`."""

    def __init__(self, folder: Path, trust: TrustDatabase, way: Way, clock: float) -> None:
        """Raises TrustError: the root can't be used."""
        self._way, self._loop = way, asyncio.get_running_loop()
        state = trust.load()
        self._marks = MarkBook(state.marks)
        # Without the build's time: a repository from before it is no attack here.
        now = trusted_time(clock, state.hub_time, build=0.0)
        self.repository = SpecificationRepository(
            folder=folder,
            root=state.root,
            stored=state.metadata,
            fetch=self._ask,
            now=datetime.fromtimestamp(now, UTC),
            marks=self._marks,
        )

    def result(self) -> VerifyResult:
        """What was verified, to be stored."""
        return VerifyResult(metadata=self.repository.changed_files(), marks=self._marks.marks())

    def _ask(self, name: str, maximum_bytes: int) -> FetchedMetadata:
        """On the verifier's thread, as its process on a device asks the supervisor's."""
        return asyncio.run_coroutine_threadsafe(self._way.metadata(name, maximum_bytes), self._loop).result()


async def check(
    trust: TrustDatabase,
    way: Way,
    work: Callable[[SpecificationRepository], Coroutine[Any, Any, T]],
    *,
    clock: float,
) -> T:
    """Refresh, do ``work`` with the repository, and store what was verified, also where it was refused.

    Args:
        trust: initialised.
        way: to the repository.
        work: after the refresh.
        clock: this machine's, Unix seconds.

    Raises:
        TrustError: refused, or the repository could not be asked.
    """
    with tempfile.TemporaryDirectory(prefix="edgeward-conformance-") as folder:
        foreign = ForeignRepository(Path(folder), trust, way, clock)
        try:
            await asyncio.to_thread(foreign.repository.refresh)
            return await work(foreign.repository)
        finally:
            trust.apply(foreign.result())


def show_metadata(trust: TrustDatabase, folder: Path) -> None:
    """Copies of what is trusted, in files as the suite looks for them: ``root.json`` is the newest root."""
    state = trust.load()
    roots = [name for name in state.metadata if name.endswith(".root.json")]
    newest = max(roots, key=lambda name: int(name.partition(".")[0]), default=None)
    files = {name: data for name, data in state.metadata.items() if name not in roots}
    files["root.json"] = state.root if newest is None else state.metadata[newest]
    for name, data in files.items():
        (folder / name).write_bytes(data)


async def obtain(repository: TrustedRepository, path: str, way: Way, folder: Path) -> None:
    """Have the target in ``folder``, under its quoted path; fetched only where it is not there already.

    Raises:
        TrustError: a role was refused, or the repository could not be asked.
        LookupError: no role that is trusted has such a target.
        TransferError: it could not be fetched.
        RepositoryError: what came is not what was signed.
    """
    target = await asyncio.to_thread(repository.find, path)
    if target is None:
        raise LookupError(f"{path}: no trusted role has it")
    place = folder / quote(path, "")
    if place.exists() and _is(target, place.read_bytes()):
        return
    writer = MemoryWriter()
    await way.artifact(target, _consistent(repository, target), writer)
    target.verify_length_and_hashes(writer.data)
    write_durable(place, writer.data)


def _is(target: TargetFile, data: bytes) -> bool:
    try:
        target.verify_length_and_hashes(data)
    except RepositoryError:
        return False
    return True


def _consistent(repository: TrustedRepository, target: TargetFile) -> str:
    """Where the file is under the base URL: with its hash before the name in a repository of consistent snapshots."""
    if not repository.root.consistent_snapshot:
        return target.path
    folder, slash, name = target.path.rpartition("/")
    return f"{folder}{slash}{stated_hash(target)}.{name}"


def stated_hash(target: TargetFile) -> str:
    return target.hashes.get("sha256") or next(iter(target.hashes.values()))
