"""How each model's input looks beside its reference, for the technician: read from disk when asked, without numpy."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from agent.core.slots import InstalledRelease
from agent.protocol.codec import decode_json
from agent.protocol.control import DriftReport, DriftSignal
from agent.protocol.drift import DriftPolicy, DriftWindow, SignalReference, SignalVerdict
from agent.protocol.errors import ProtocolError
from agent.protocol.labels import AccuracyFigure, LabelCounts
from agent.protocol.limits import MAX_MANIFEST_BYTES
from agent.protocol.manifest import decode_manifest
from agent.store.artifacts import ArtifactStore
from agent.store.errors import StoreError
from agent.store.windows import WindowLog

_SEVERITY = {"insufficient data": 0, "ok": 1, "warning": 2, "drift": 3}

Installed = Callable[[str], Sequence[InstalledRelease]]
"""Model → the releases whose files are kept."""
Accuracy = Callable[[str], Awaitable[tuple[tuple[AccuracyFigure, ...], LabelCounts]]]
"""Model → what labels have counted."""


class _Reference(Struct, frozen=True, kw_only=True):
    """Of :class:`agent.protocol.drift.DriftReference`, without what is large: its embeddings."""

    rows: int
    signals: tuple[SignalReference, ...]
    policy: DriftPolicy


class DriftReports:
    """Lays the newest window of a model beside the reference of the release that served in it."""

    def __init__(
        self, windows: WindowLog, artifacts: ArtifactStore, installed: Installed, accuracy: Accuracy
    ) -> None:
        self._windows = windows
        self._artifacts = artifacts
        self._installed = installed
        self._accuracy = accuracy

    async def reports(self, model: str | None, history: int) -> tuple[DriftReport, ...]:
        """A report a model that has closed a window, or of one; ``history``: windows of its timeline."""
        return tuple([await self._report(window, history) for window in await self._windows.latest(model)])

    async def _report(self, window: DriftWindow, history: int) -> DriftReport:
        statistics = await self._windows.statistics(window.model)
        try:
            reference = await asyncio.to_thread(self._reference, window)
            signals, problem = _signals(reference, window, statistics), None
        except _UnreadableError as error:
            reference, signals, problem = None, (), str(error)
        figures = await self._figures(window.model)
        return DriftReport(
            model=window.model,
            window=window,
            signals=signals,
            reference_rows=None if reference is None else reference.rows,
            policy=None if reference is None else reference.policy,
            problem=problem,
            history=tuple(await self._windows.timeline(window.model, history)),
            slices=tuple(
                each
                for each in await self._windows.slices(window.model)
                if each.slice is not None and each.release == window.release
            ),
            accuracy=tuple(each for each in figures if each.release == window.release),
        )

    async def _figures(self, model: str) -> tuple[AccuracyFigure, ...]:
        """None while labels can't be read: the rest is worth telling."""
        try:
            figures, _ = await self._accuracy(model)
        except StoreError:
            return ()
        return figures

    def _reference(self, window: DriftWindow) -> _Reference:
        name = f"{window.model} release {window.release}"
        kept = [each for each in self._installed(window.model) if each.release == window.release]
        if not kept:
            raise _UnreadableError(f"the files of {name} are no longer on this device")
        try:
            manifest = decode_manifest(self._artifacts.read(kept[0].manifest))
            data = self._artifacts.read(manifest.drift_reference.sha256)
            return decode_json(data, _Reference, limit=MAX_MANIFEST_BYTES)
        except (StoreError, ProtocolError, OSError) as error:
            raise _UnreadableError(f"the reference of {name} can't be read: {error}") from error


class _UnreadableError(Exception):
    """A window stands without its reference; the text says why."""


def _signals(
    reference: _Reference, window: DriftWindow, statistics: dict[str, SignalVerdict]
) -> tuple[DriftSignal, ...]:
    """That which moved most first; those whose layout is another one's are left out."""
    found = [
        DriftSignal(reference=signal, counts=window.signals[signal.name], verdict=statistics[signal.name])
        for signal in reference.signals
        if signal.name in statistics
        and signal.name in window.signals
        and len(window.signals[signal.name].counts) == len(signal.counts)
    ]
    return tuple(sorted(found, key=_moved, reverse=True))


def _moved(signal: DriftSignal) -> tuple[int, float]:
    verdict = signal.verdict
    apart = max(verdict.missing_rate, verdict.not_finite_rate, verdict.outside_rate)
    return (_SEVERITY[verdict.level], max(verdict.psi, apart))
