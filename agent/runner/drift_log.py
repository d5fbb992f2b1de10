"""Drift windows beside the request path (an observer of :class:`agent.runner.bookkeeping.Bookkeeping`)."""

from collections.abc import Callable, Mapping, Sequence

from agent.drift import ClosedWindow, WindowBuilder
from agent.runner.backends import Array
from agent.runner.request_facts import RequestFacts
from agent.runner.slice_names import SliceNames
from agent.runner.slice_windows import SliceWindows

OPEN_SECONDS = 5.0
"""So often it is told how far the open window of all requests is: no more of it is lost where the runner dies.

Of n slices one is told a tick, in turn, so that telling stalls nobody who asks: each at least every
:data:`OPEN_SECONDS` + n seconds. Not told is a window that is younger, or in which nothing has come since it was told.
"""

MOST_CLOSED = 4
"""Slices' windows that a tick closes; what else is old enough waits for the next one."""

_AGAIN = OPEN_SECONDS - 1.0  # by the next tick it would be older than promised
_TICK = 0.5  # what comes sooner after the last one (labels tick too) tells nothing


class DriftLog:
    """Feeds the window of all requests, and those of slices, and hands over each one that closes."""

    def __init__(
        self,
        window: WindowBuilder,
        closed: Callable[[ClosedWindow], None],
        still_open: Callable[[ClosedWindow], None],
    ) -> None:
        """``still_open``: is told now and then what a window would be if it were to end now."""
        self._window = window
        self._take = window.add
        self._closed = closed
        self._still_open = still_open
        self._told = 0.0
        self._ticked = 0.0

    def add(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], _facts: RequestFacts, now: float
    ) -> None:
        """Take one answered batch."""
        if self._take(inputs, outputs, now):
            self._close_whole(now)

    def tick(self, now: float) -> None:
        """Close the window if it is old enough, or tell how far it is."""
        if self._window.due(now):
            self._close_whole(now)
        if abs(now - self._ticked) >= _TICK:  # also where the clock was put back
            self._ticked = now
            self._tell(now)

    def close(self, now: float) -> None:
        """Close the window as it is."""
        self._close_whole(now)

    def _tell(self, now: float) -> None:
        if abs(now - self._told) >= _AGAIN and self._window.has_news(now, _AGAIN):
            self._told = now
            self._tell_of(self._window, now)

    def _tell_of(self, window: WindowBuilder, now: float) -> None:
        so_far = window.so_far(now)
        if so_far is not None:
            self._still_open(so_far)

    def _close_whole(self, now: float) -> None:
        closed = self._window.close(now)
        if closed is not None:
            self._closed(closed)


class SlicedDriftLog(DriftLog):
    """The same, with windows of slices beside that of all requests."""

    def __init__(
        self,
        window: WindowBuilder,
        closed: Callable[[ClosedWindow], None],
        still_open: Callable[[ClosedWindow], None],
        *,
        names: SliceNames,
        slices: SliceWindows,
        measure: Callable[[Mapping[str, Array], Mapping[str, Array]], int],
    ) -> None:
        """``slices`` takes the values of ``window`` (its ``also``); ``measure``: rows of a batch."""
        super().__init__(window, closed, still_open)
        self._names = names
        self._slices = slices
        self._measure = measure

    def add(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], facts: RequestFacts, now: float
    ) -> None:
        """Take one answered batch, whose rows all belong to one slice or to none."""
        rows = self._measure(inputs, outputs)
        name = self._names.name(facts)
        self._slices.announce(name, rows)
        try:
            full = self._window.add(inputs, outputs, now)
        except Exception:
            self._slices.refused(rows)
            raise
        due = self._slices.taken(name, rows, now)
        if full:
            self._close_whole(now)
        if due and name is not None:  # its own alone: what others' age asks for is done when nobody waits
            self._close_slices((name,), now)

    def tick(self, now: float) -> None:
        """Close what is old enough, each window by itself, or tell how far it is."""
        super().tick(now)
        due = self._slices.due(now)[:MOST_CLOSED]
        if due:
            self._close_slices(due, now)

    def _close_slices(self, names: Sequence[str], now: float) -> None:
        self._window.flush()
        for name in names:
            for closed in self._slices.close_one(name, now):
                self._closed(closed)

    def _tell(self, now: float) -> None:
        super()._tell(now)
        name = self._slices.turn(now, _AGAIN)
        if name is not None:
            self._window.flush()
            self._tell_of(self._slices.counted(name), now)

    def close(self, now: float) -> None:
        """Close every window as it is."""
        super().close(now)
        for closed in self._slices.close(now):
            self._closed(closed)
