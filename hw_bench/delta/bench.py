"""Every model, every change, every tool: bytes, seconds and memory."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from hw_bench.delta.changes import CHANGES, Changed
from hw_bench.delta.child import Applied
from hw_bench.delta.methods import DETOOLS, DETOOLS_CRLE, MAKERS, OURS, PATCH_FROM, PEERS, ZSTD
from hw_bench.delta.weights import read_weights
from hw_bench.errors import MeasurementError

NEXT_VERSION = "next version"
ALL_CHANGES = (*CHANGES, NEXT_VERSION)
APPLIED_BY = {DETOOLS_CRLE: DETOOLS, ZSTD: "zstd", PATCH_FROM: "patch-from"}
"""The child's name for it, where it is another."""
WITHIN = 1.10
"""Ours may be so much larger than the smallest of the others."""
MEMORY_BYTES = 4 * 1024 * 1024
"""What applying ours may take beyond the baseline."""


class Tried(Struct, frozen=True, kw_only=True):
    """One tool on one change."""

    method: str
    patch_bytes: int
    make_seconds: float
    applied: Applied


class Row(Struct, frozen=True, kw_only=True):
    """One change of one model."""

    model: str
    change: str
    file_bytes: int
    changed_share: float
    tried: dict[str, Tried]

    @property
    def ours(self) -> Tried:
        """What the hub would ship: the smallest of ours."""
        return min((self.tried[name] for name in OURS), key=lambda each: each.patch_bytes)

    @property
    def best_peer(self) -> Tried:
        return min((self.tried[name] for name in PEERS), key=lambda each: each.patch_bytes)

    @property
    def kept(self) -> bool:
        small = self.ours.patch_bytes <= WITHIN * self.best_peer.patch_bytes
        return small and self.ours.applied.beyond_bytes <= MEMORY_BYTES


class DeltaReport(Struct, frozen=True, kw_only=True):
    """All rows, and what they were measured with."""

    machine: str
    packages: dict[str, str]
    command: str
    made: str
    models: dict[str, str]
    """Name → package and licence."""
    rows: tuple[Row, ...]
    absent: dict[str, str]


class Subject(Struct, frozen=True, kw_only=True):
    """A model to measure."""

    name: str
    path: Path
    earlier: Path | None = None
    """What it followed in the field."""


def measure(
    subjects: Iterable[Subject], tell: Callable[[str], None], changes: Iterable[str] = ALL_CHANGES
) -> tuple[Row, ...]:
    """One row for each model and change.

    Raises:
        MeasurementError: a tool failed, or made another file than it should.
    """
    wanted = tuple(changes)
    return tuple(
        _row(subject.name, change, changed, tell)
        for subject in subjects
        for change, changed in _changed(subject, wanted)
    )


def _changed(subject: Subject, changes: tuple[str, ...]) -> Iterator[tuple[str, Changed]]:
    weights = read_weights(subject.path)
    for change in changes:
        if change != NEXT_VERSION:
            yield change, CHANGES[change](weights)
        elif subject.earlier is not None:
            yield (
                change,
                Changed(base=subject.earlier.read_bytes(), target=subject.path.read_bytes(), share=1.0),
            )


def _row(model: str, change: str, changed: Changed, tell: Callable[[str], None]) -> Row:
    tell(f"{model}: {change} …")
    with tempfile.TemporaryDirectory(prefix="edgeward-delta-") as folder:
        bench = _Bench(Path(folder), changed.base, changed.target)
        return Row(
            model=model,
            change=change,
            file_bytes=len(changed.target),
            changed_share=changed.share,
            tried={method: bench.run(method) for method in (*OURS, *PEERS)},
        )


class _Bench:
    def __init__(self, folder: Path, base: bytes, target: bytes) -> None:
        self._base, self._target = base, target
        self._old, self._patch, self._out = folder / "old", folder / "patch", folder / "out"
        self._old.write_bytes(base)

    def run(self, method: str) -> Tried:
        began = time.perf_counter()
        try:
            patch = MAKERS[method](self._base, self._target)
        except (subprocess.CalledProcessError, OSError) as error:
            raise MeasurementError(f"{method} made no patch: {error}") from error
        seconds = time.perf_counter() - began
        self._patch.write_bytes(patch)
        self._out.unlink(missing_ok=True)
        applied = self._child(method)
        if self._out.read_bytes() != self._target:
            raise MeasurementError(f"{method}: its patch makes another file")
        return Tried(method=method, patch_bytes=len(patch), make_seconds=seconds, applied=applied)

    def _child(self, method: str) -> Applied:
        name = APPLIED_BY.get(method, method)
        files = (self._old, self._patch, self._out)
        child = subprocess.run(
            [sys.executable, "-m", "hw_bench.delta.child", name, *map(str, files), str(len(self._target))],
            capture_output=True,
            check=False,
        )
        if child.returncode != 0:
            problem = child.stderr.decode(errors="replace").strip()[-400:]
            raise MeasurementError(f"{method}: {problem or f'exit {child.returncode}'}")
        return msgspec.json.decode(child.stdout, type=Applied)
