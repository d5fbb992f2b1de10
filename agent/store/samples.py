"""Kept inputs, one file each in a folder of the agent's own: bounded in bytes, number, age, likeness and flash.

What a file holds decides, its name is the sample's id; a file that can't be read is removed and counted. Synchronous: call it
from a thread, one call at a time.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from agent.protocol.samples import KeptSample, SampleReason
from agent.store.durable_file import make_folder, remove_durable, sweep_temporary, write_durable

log = logging.getLogger(__name__)

SUFFIX = ".sample"
ALIKE = 3
"""Samples of one model and likeness that are kept: what a camera that is stuck can take."""
CLEARLY = 1.1
"""Times the score of the least informative one that an input must have to take its place."""
SECONDS_A_DAY = 86_400.0
OVERHEAD_BYTES = 8 * 1024
"""That a file system writes beside a file's bytes: its inode, its folder's block."""

_NAME = re.compile(r"[0-9a-f]{32}\.sample")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(KeptSample).decode


class SampleEntry(Struct, frozen=True, kw_only=True):
    """A kept sample without its tensors."""

    id: str
    model: str
    release: int
    time: float
    why: tuple[SampleReason, ...]
    score: float
    likeness: str
    confidence: float | None
    size: int
    """Bytes of its file."""

    @property
    def worth(self) -> tuple[float, float]:
        """The least is dropped first: of the least informative the oldest."""
        return self.score, self.time


class SampleRing:
    """The samples of one device.

    Args:
        folder: of the samples alone.
        maximum_bytes, maximum_count, days: bounds of all samples together, and of each one's age.
        written_bytes_per_day: flash that may be written; beyond it, nothing is kept.
    """

    def __init__(
        self, folder: Path, *, maximum_bytes: int, maximum_count: int, days: float, written_bytes_per_day: int
    ) -> None:
        self._folder = folder
        self._maximum_bytes = maximum_bytes
        self._maximum_count = maximum_count
        self._seconds = days * SECONDS_A_DAY
        self._writable = written_bytes_per_day
        self._entries: dict[str, SampleEntry] = {}
        self._written: deque[tuple[float, int]] = deque()
        self.unreadable = 0
        """Files that held no sample; they are gone."""

    def load(self, now: float) -> None:
        """Find what was kept before; ``now``: Unix seconds.

        Raises:
            OSError: the folder can't be read.
        """
        if not self._folder.is_dir():
            return
        sweep_temporary(self._folder)
        for path in sorted(self._folder.iterdir()):
            if _NAME.fullmatch(path.name) is None:
                continue
            try:
                data = path.read_bytes()
                entry = _entry(_decode(data), len(data))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
                path.unlink(missing_ok=True)
                continue
            self._entries[entry.id] = entry
            if 0 <= now - entry.time < SECONDS_A_DAY:
                self._written.append((entry.time, entry.size + OVERHEAD_BYTES))
        self._drop(self._excess(self._entries.values()))

    def add(self, sample: KeptSample, now: float) -> bool:
        """Keep ``sample`` where it is worth a place; returns whether it was.

        Raises:
            OSError: the disk is full or failing; nothing has changed but what had to make room.
        """
        if sample.id in self._entries:
            return False
        data = _encode(sample)
        entry = _entry(sample, len(data))
        doomed = self._excess([*self._entries.values(), entry])
        if entry.id in doomed or not self._may_write(entry.size + OVERHEAD_BYTES, now):
            return False
        self._drop(doomed)
        self._make_folder()
        write_durable(self._folder / f"{entry.id}{SUFFIX}", data, mode=0o600)
        self._written.append((now, entry.size + OVERHEAD_BYTES))
        self._entries[entry.id] = entry
        return True

    def entries(self) -> list[SampleEntry]:
        """All that are kept, the newest first."""
        return sorted(self._entries.values(), key=lambda entry: (-entry.time, entry.id))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self._entries.values())

    def read(self, identity: str) -> KeptSample | None:
        """One sample whole; None where it is not kept (any more).

        Raises:
            OSError: the disk fails.
        """
        if identity not in self._entries:
            return None
        try:
            return _decode((self._folder / f"{identity}{SUFFIX}").read_bytes())
        except FileNotFoundError:
            del self._entries[identity]
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.unreadable += 1
            self._drop({identity})
        return None

    def expire(self, now: float) -> int:
        """Delete what is too old; returns how many. Nothing is too old for a clock that stands before it."""
        old = {each.id for each in self._entries.values() if now - each.time > self._seconds}
        self._drop(old)
        return len(old)

    def clear(self) -> int:
        """Delete all; returns how many."""
        count = len(self._entries)
        self._drop(set(self._entries))
        return count

    def _may_write(self, size: int, now: float) -> bool:
        while self._written and not 0 <= now - self._written[0][0] < SECONDS_A_DAY:
            self._written.popleft()
        return sum(each for _, each in self._written) + size <= self._writable

    def _excess(self, entries: Iterable[SampleEntry]) -> set[str]:
        """What must go, so that the bounds hold: of the most common likeness the least informative, then of all."""
        groups: dict[tuple[str, str], list[SampleEntry]] = {}
        newest = ""
        for entry in entries:
            groups.setdefault((entry.model, entry.likeness), []).append(entry)
            newest = entry.id
        doomed: set[str] = set()
        for group in groups.values():
            while len(group) > ALIKE:
                doomed.add(_least(group, newest).id)
        left = [entry for group in groups.values() for entry in group]
        count, size = len(left), sum(entry.size for entry in left)
        while count > self._maximum_count or size > self._maximum_bytes:
            crowded = max(groups.values(), key=len)
            if len(crowded) == 1:
                crowded = [min((group[0] for group in groups.values() if group), key=lambda each: each.worth)]
                groups[crowded[0].model, crowded[0].likeness] = crowded
            gone = _least(crowded, newest)
            doomed.add(gone.id)
            count, size = count - 1, size - gone.size
        return doomed

    def _drop(self, identities: set[str]) -> None:
        for identity in identities:
            remove_durable(self._folder / f"{identity}{SUFFIX}")
            self._entries.pop(identity, None)

    def _make_folder(self) -> None:
        if not self._folder.is_dir():
            make_folder(self._folder)
            self._folder.chmod(0o700)


def _least(group: list[SampleEntry], newest: str) -> SampleEntry:
    """Take the least informative out of ``group``; the newest one must be clearly better than one that is there already."""
    old = [entry for entry in group if entry.id != newest]
    least = min(old or group, key=lambda entry: entry.worth)
    arrived = next((entry for entry in group if entry.id == newest), None)
    if arrived is not None and arrived.score < CLEARLY * least.score:
        least = arrived
    group.remove(least)
    return least


def _entry(sample: KeptSample, size: int) -> SampleEntry:
    return SampleEntry(
        id=sample.id,
        model=sample.model,
        release=sample.release,
        time=sample.time,
        why=sample.why,
        score=sample.score,
        likeness=sample.likeness,
        confidence=sample.confidence,
        size=size,
    )
