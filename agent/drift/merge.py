"""Merge windows of one release over devices and time: counts add up, so nothing is lost and order does not matter."""

from collections.abc import Iterable

from msgspec import Struct

from agent.drift.errors import LayoutError
from agent.protocol.drift import DriftWindow, SignalCounts


class MergedWindow(Struct, frozen=True, kw_only=True):
    """The sum of windows. It has no verdict of its own: :func:`agent.drift.judge` gives one, with its ``rows``.

    A merge hides a single sick device, so keep the windows beside it.
    """

    model: str
    release: int
    artifacts: tuple[str, ...]
    """Digests of the model files that served, sorted; several where devices run different variants."""
    windows: int
    opened: float
    """Unix seconds, the earliest."""
    closed: float
    """Unix seconds, the latest."""
    rows: int
    signals: dict[str, SignalCounts]


def merge_windows(windows: Iterable[DriftWindow | MergedWindow]) -> MergedWindow:
    """The exact sum: associative, and the same in any order.

    Raises:
        LayoutError: no window at all, or windows of different models, releases, signals or bins.
    """
    parts = [_as_merged(window) for window in windows]
    if not parts:
        raise LayoutError("merge: there is no window to merge")
    first = parts[0]
    for part in parts[1:]:
        _require_same(first, part)
    return MergedWindow(
        model=first.model,
        release=first.release,
        artifacts=tuple(sorted({digest for part in parts for digest in part.artifacts})),
        windows=sum(part.windows for part in parts),
        opened=min(part.opened for part in parts),
        closed=max(part.closed for part in parts),
        rows=sum(part.rows for part in parts),
        signals={name: merge_counts(part.signals[name] for part in parts) for name in sorted(first.signals)},
    )


def merge_counts(parts: Iterable[SignalCounts]) -> SignalCounts:
    """The sum of one signal's counts, at least one part; raises :class:`ValueError` where lengths differ."""
    every = list(parts)
    return SignalCounts(
        counts=tuple(map(sum, zip(*(part.counts for part in every), strict=True))),
        missing=sum(part.missing for part in every),
        not_finite=sum(part.not_finite for part in every),
        repeated=sum(part.repeated for part in every),
        withheld=sum(part.withheld for part in every),
    )


def _as_merged(window: DriftWindow | MergedWindow) -> MergedWindow:
    if isinstance(window, MergedWindow):
        return window
    return MergedWindow(
        model=window.model,
        release=window.release,
        artifacts=(window.artifact,),
        windows=1,
        opened=window.opened,
        closed=window.closed,
        rows=window.rows,
        signals=window.signals,
    )


def _require_same(first: MergedWindow, other: MergedWindow) -> None:
    if (first.model, first.release) != (other.model, other.release):
        raise LayoutError(
            f"merge: {first.model}/{first.release} and {other.model}/{other.release} are different releases"
        )
    layout, found = (
        {name: len(counts.counts) for name, counts in merged.signals.items()} for merged in (first, other)
    )
    if layout != found:
        odd = sorted(name for name in layout.keys() | found.keys() if layout.get(name) != found.get(name))
        raise LayoutError(f"merge: windows differ in the signals or bins of {', '.join(odd)}")
