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


class _Run:
    """Rows, one after the other, of one slice; None: of no slice."""

    __slots__ = ("builder", "rows")

    def __init__(self, builder: WindowBuilder | None, rows: int) -> None:
        self.builder = builder
        self.rows = rows


class SliceWindows:
    """The open windows of every slice. ``make`` gives a slice its builder."""

    def __init__(self, make: Callable[[str], WindowBuilder]) -> None:
        self._make = make
        self._builders: dict[str, WindowBuilder] = {}
        self._runs: deque[_Run] = deque()
        """Of the rows that the whole's window has not counted yet, the oldest first."""

    def announce(self, name: str | None, rows: int) -> None:
        """Before the whole's window is given them: the next ``rows`` belong to that slice."""
        builder = None if name is None else self._builder(name)
        if self._runs and self._runs[-1].builder is builder:
            self._runs[-1].rows += rows
        else:
            self._runs.append(_Run(builder, rows))

    def taken(self, name: str | None, rows: int, now: float) -> None:
        """The whole's window has them."""
        if name is not None:
            self._builders[name].expect(rows, now)

    def refused(self, rows: int) -> None:
        """The whole's window did not take what was announced last."""
        last = self._runs[-1]
        last.rows -= rows
        if not last.rows:
            self._runs.pop()

    def take(self, values: Floats) -> None:
        """Give each slice its rows of what the whole's window counts now, shape (rows, signals)."""
        parts: dict[int, tuple[WindowBuilder, list[Floats]]] = {}
        start = 0
        while start < len(values):
            run = self._runs[0]
            end = min(start + run.rows, len(values))
            if run.builder is not None:
                parts.setdefault(id(run.builder), (run.builder, []))[1].append(values[start:end])
            run.rows -= end - start
            if not run.rows:
                self._runs.popleft()
            start = end
        for builder, pieces in parts.values():
            builder.take(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))

    def due(self, now: float) -> list[WindowBuilder]:
        """Those that are full or old enough; the whole's window must be flushed before they close."""
        return [builder for builder in self._builders.values() if builder.due(now)]

    def all(self) -> tuple[WindowBuilder, ...]:
        """Every slice's."""
        return tuple(self._builders.values())

    def close(self, now: float) -> Iterator[ClosedWindow]:
        """All of them, as they are."""
        for builder in self._builders.values():
            closed = builder.close(now)
            if closed is not None:
                yield closed

    def _builder(self, name: str) -> WindowBuilder:
        builder = self._builders.get(name)
        if builder is None:
            builder = self._builders[name] = self._make(name)
        return builder
