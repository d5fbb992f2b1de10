"""Sees to it that a window is not lost with whoever was to close it."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable
from typing import Protocol

from agent.protocol.drift import DriftWindow
from agent.protocol.runner import WindowClosed
from agent.store.errors import StoreError
from agent.store.open_windows import OpenKey, open_key

log = logging.getLogger(__name__)

_Key = tuple[str, int, str, str | None]
"""Model, release, deployment, slice."""


class OpenWindowsPort(Protocol):
    async def keep(self, so_far: Iterable[WindowClosed], gone: Iterable[OpenKey] = ()) -> None: ...


class OpenWindows:
    """Writes down now and then how far the open windows are: what is left of them where the whole device dies.

    Of a runner that dies alone, the supervisor has something newer (:class:`agent.supervisor.RunnerProcess`).
    """

    def __init__(self, store: OpenWindowsPort, interval: float, count: Callable[[str], None]) -> None:
        """``interval``: seconds between two writes; what is counted in between is lost in a power cut."""
        self._store = store
        self._interval = interval
        self._count = count
        self._changed: dict[_Key, WindowClosed] = {}
        self._writing: dict[_Key, WindowClosed] = {}
        self._open: dict[_Key, tuple[OpenKey, int]] = {}
        """What was last told of them, and how many rows they had."""
        self._gone: set[OpenKey] = set()

    def seen(self, so_far: WindowClosed) -> None:
        """How far an open window is."""
        key, told = _key(so_far.window), (open_key(so_far.window), so_far.window.rows)
        if self._open.get(key) == told:
            return
        self._moved(key, so_far.window)
        self._open[key] = told
        self._changed[key] = so_far

    def closed(self, window: DriftWindow) -> None:
        """It is being recorded, and what was written of it is forgotten with that."""
        key = _key(window)
        self._changed.pop(key, None)
        self._writing.pop(key, None)
        self._moved(key, window)
        self._open.pop(key, None)

    def _moved(self, key: _Key, window: DriftWindow) -> None:
        """Where the clock was put back, a window opens again, earlier: what is kept of it has another key."""
        before = self._open.get(key)
        if before is not None and before[0] != open_key(window):
            self._gone.add(before[0])

    async def run(self) -> None:
        """Write what has changed, until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self._writing, self._changed = self._changed, {}
            gone, self._gone = self._gone, set()
            if not self._writing and not gone:
                continue
            try:
                await self._store.keep(tuple(self._writing.values()), gone)
            except (StoreError, sqlite3.Error, OSError):  # models serve on; the next write may be better
                self._count("open-windows-not-written")
                log.exception("open windows not written")
                # A window in which nothing comes is not told again.
                self._changed = {**self._writing, **self._changed}
                self._gone |= gone


def _key(window: DriftWindow) -> _Key:
    return window.model, window.release, window.deployment, window.slice
