"""Says early what would end updates: an approval that expires, a release that was withdrawn, a clock that is wrong."""

import asyncio
import contextlib
from collections.abc import Callable

from agent.core.trust_watch import TrustFacts, warnings
from agent.protocol import telemetry
from agent.protocol.state import TrustReport
from agent.service.recorder import TelemetryRecorder

LOOK_SECONDS = 60.0
"""Nothing here is a matter of seconds."""


class TrustWatch:
    """One event a warning and start of the agent; what stands is in every report."""

    def __init__(
        self,
        facts: Callable[[], TrustFacts],
        recorder: TelemetryRecorder,
        *,
        changed: Callable[[], None],
    ) -> None:
        self._facts = facts
        self._recorder = recorder
        self._changed = changed
        self._told: set[str] = set()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Look once a minute and whenever :meth:`wake` says so, until cancelled."""
        while True:
            self._news.clear()
            await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()

    def wake(self) -> None:
        """A check has ended: look now."""
        self._news.set()

    async def look(self) -> None:
        """Record each warning that is new."""
        facts = self._facts()
        standing = warnings(facts)
        new = [each for each in standing if each.key not in self._told]
        # What is over may come again: the next expiry of the same role is another one.
        self._told = {each.key for each in standing}
        for each in new:
            await self._recorder.record(
                telemetry.Event(
                    time=facts.system,
                    severity="error" if each.urgent else "warning",
                    kind=each.reason.code,
                    text=each.reason.text,
                )
            )
        if new:
            self._changed()

    def report(self) -> TrustReport | None:
        """For reported state; None before the first check since the start."""
        facts = self._facts()
        standing = warnings(facts)
        if not facts.expiry and not standing:
            return None
        return TrustReport(
            hub_time=facts.hub,
            expiry=facts.expiry,
            withdrawn=facts.withdrawn,
            warnings=tuple(each.reason for each in standing),
        )
