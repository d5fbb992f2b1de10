"""Drift windows beside the request path (an observer of :class:`agent.runner.bookkeeping.Bookkeeping`)."""

from collections.abc import Callable, Mapping

from agent.drift import ClosedWindow, WindowBuilder
from agent.runner.backends import Array
from agent.runner.openinference import RequestFacts


class DriftLog:
    """Feeds a window and hands over each one that closes."""

    def __init__(self, window: WindowBuilder, closed: Callable[[ClosedWindow], None]) -> None:
        self._window = window
        self._closed = closed

    def add(
        self, inputs: Mapping[str, Array], outputs: Mapping[str, Array], _facts: RequestFacts, now: float
    ) -> None:
        """Take one answered batch."""
        self._window.add(inputs, outputs, now)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Close the window if it is full or old enough."""
        if self._window.due(now):
            self.close(now)

    def close(self, now: float) -> None:
        """Close the window as it is."""
        window = self._window.close(now)
        if window is not None:
            self._closed(window)
