"""Windows of slices: each has its own counts, rows and age, and takes its rows' values from the whole's window.

The values of a row are computed once, with the whole's; here stands only which of them belong to whom, so that a slice
costs no second copy of a row.
"""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from agent.drift import ClosedWindow, WindowBuilder

Floats = NDArray[np.float64]

HELD_ROWS = 256
"""Of one slice, before they are counted together: to count a few costs nearly as much."""


class _Slice:
    """One slice's window, and values of its rows that it has not counted yet."""

    __slots__ = ("_held", "_rows", "builder", "told")

    def __init__(self, builder: WindowBuilder) -> None:
        self.builder = builder
        self.told = 0.0
        """When it was last told how far it is, Unix seconds."""
        self._held: list[Floats] = []
        self._rows = 0

    def hold(self, values: Floats) -> None:
        self._held.append(values)
        self._rows += len(values)
        if self._rows >= HELD_ROWS:
            self.count()

    def count(self) -> None:
        """Count what is held."""
        if self._held:
            self.builder.take(np.concatenate(self._held))
            self._held, self._rows = [], 0


class _Run:
    """Rows, one after the other, of one slice; None: of no slice."""

    __slots__ = ("rows", "slice")

    def __init__(self, of: _Slice | None, rows: int) -> None:
        self.slice = of
        self.rows = rows


class SliceWindows:
    """The open windows of every slice. ``make`` gives a slice its builder."""

    def __init__(self, make: Callable[[str], WindowBuilder]) -> None:
        self._make = make
        self._slices: dict[str, _Slice] = {}
        self._runs: deque[_Run] = deque()
        """Of the rows that the whole's window has not counted yet, the oldest first."""
        self._turns: list[str] = []
        """Slices, the one that was told longest ago first."""

    def announce(self, name: str | None, rows: int) -> None:
        """Before the whole's window is given them: the next ``rows`` belong to that slice."""
        of = None if name is None else self._slice(name)
        if self._runs and self._runs[-1].slice is of:
            self._runs[-1].rows += rows
        else:
            self._runs.append(_Run(of, rows))

    def taken(self, name: str | None, rows: int, now: float) -> bool:
        """The whole's window has them; whether their slice's window is full or old enough now."""
        if name is None:
            return False
        builder = self._slices[name].builder
        builder.expect(rows, now)
        return builder.due(now)

    def refused(self, rows: int) -> None:
        """The whole's window did not take what was announced last."""
        last = self._runs[-1]
        last.rows -= rows
        if not last.rows:
            self._runs.pop()

    def take(self, values: Floats) -> None:
        """Give each slice its rows of what the whole's window counts now, shape (rows, signals)."""
        parts: dict[_Slice, list[int]] = {}
        start = 0
        while start < len(values):
            run = self._runs[0]
            end = min(start + run.rows, len(values))
            if run.slice is not None:
                parts.setdefault(run.slice, []).extend(range(start, end))
            run.rows -= end - start
            if not run.rows:
                self._runs.popleft()
            start = end
        for of, rows in parts.items():
            of.hold(values[rows])

    def due(self, now: float) -> list[str]:
        """Slices whose windows are full or old enough, the one that was closed longest ago first."""
        return [name for name, each in self._slices.items() if each.builder.due(now)]

    def close_one(self, name: str, now: float) -> Iterator[ClosedWindow]:
        """Its window, as it is; the whole's window must have been flushed."""
        closing = self._slices.pop(name)
        self._slices[name] = closing  # behind the others, that each is closed in turn
        yield from _closed(closing, now)

    def turn(self, now: float, seconds: float) -> str | None:
        """The slice whose turn it is to be told: it has news, and was opened and last told so many seconds ago."""
        for name in self._turns:
            each = self._slices[name]
            if abs(now - each.told) >= seconds and each.builder.has_news(
                now, seconds
            ):  # also where the clock was put back
                self._turns.remove(name)
                self._turns.append(name)
                each.told = now
                return name
        return None

    def counted(self, name: str) -> WindowBuilder:
        """A slice's, with all of its rows that the whole's window has counted."""
        found = self._slices[name]
        found.count()
        return found.builder

    def close(self, now: float) -> Iterator[ClosedWindow]:
        """All of them, as they are; the whole's window must have been flushed."""
        for each in self._slices.values():
            yield from _closed(each, now)

    def _slice(self, name: str) -> _Slice:
        found = self._slices.get(name)
        if found is None:
            found = self._slices[name] = _Slice(self._make(name))
            self._turns.append(name)
        return found


def _closed(of: _Slice, now: float) -> Iterator[ClosedWindow]:
    of.count()
    closed = of.builder.close(now)
    if closed is not None:
        yield closed
