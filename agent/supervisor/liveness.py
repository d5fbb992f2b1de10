"""Tells when a runner is stuck: it says nothing any more, or one inference never ends."""

import asyncio
from collections.abc import Callable

from agent.protocol.state import Reason

_TICK_SECONDS = 0.25


class Liveness:
    """Watches one runner, which says each second that it is alive and for how long an inference has been under way.

    What is counted is the time this process itself was awake to listen: a supervisor that was stopped for a minute does
    not take the minute for its runner's silence.
    """

    def __init__(
        self, limit_seconds: float, *, excused: Callable[[], bool], stuck: Callable[[Reason], None]
    ) -> None:
        """``excused``: whether it may be silent now (it was asked for something that has a time limit of its own)."""
        self._limit = limit_seconds
        self._excused = excused
        self._stuck = stuck
        self._silent = 0.0
        self._running = 0.0

    def heard(self, running_seconds: float | None = None) -> None:
        """It said something; ``running_seconds`` if that is what it said."""
        self._silent = 0.0
        if running_seconds is not None:
            self._running = running_seconds

    async def run(self) -> None:
        """Watch until it is stuck; then ``stuck`` is called, once."""
        while not self._is_stuck():
            await asyncio.sleep(_TICK_SECONDS)
            self._silent = 0.0 if self._excused() else self._silent + _TICK_SECONDS

    def _is_stuck(self) -> bool:
        if self._running > self._limit:
            text = f"an inference has been under way for {self._running:.1f} s; at most {self._limit:g} s are allowed"
        elif self._silent > self._limit:
            text = f"the runner has not answered its supervisor for {self._silent:.1f} s; at most {self._limit:g} s are allowed"
        else:
            return False
        self._stuck(Reason(code="runner-stuck", text=text))
        return True
