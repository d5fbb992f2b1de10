"""Drift bookkeeping beside the request path: whatever happens in it, no request fails."""

import logging
from collections.abc import Callable, Mapping

from agent.drift import WindowBuilder
from agent.protocol.drift import DriftWindow
from agent.runner.backends import Array

_log = logging.getLogger(__name__)


class DriftLog:
    """Feeds a window and hands over each one that closes; errors are logged once and counted."""

    def __init__(
        self, window: WindowBuilder, clock: Callable[[], float], closed: Callable[[DriftWindow], None]
    ) -> None:
        self._window = window
        self._clock = clock
        self._closed = closed
        self.errors = 0
        """Batches that were not taken, and windows that could not be closed."""

    def add(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take one answered batch."""
        try:
            now = self._clock()
            self._window.add(inputs, outputs, now)
            if self._window.due(now):
                self._close(now)
        except Exception:  # noqa: BLE001 (a request was answered well; its bookkeeping may not undo that)
            self._count_error()

    def tick(self) -> None:
        """Close the window if it is old enough."""
        try:
            now = self._clock()
            if self._window.due(now):
                self._close(now)
        except Exception:  # noqa: BLE001 (as above)
            self._count_error()

    def close(self) -> None:
        """Close the window as it is."""
        try:
            self._close(self._clock())
        except Exception:  # noqa: BLE001 (as above)
            self._count_error()

    def _close(self, now: float) -> None:
        window = self._window.close(now)
        if window is not None:
            self._closed(window)

    def _count_error(self) -> None:
        self.errors += 1
        if self.errors == 1:
            _log.exception("drift bookkeeping failed; further errors are only counted")
