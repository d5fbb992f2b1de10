"""A proven candidate, compared with what serves on copies of live requests before it may serve itself."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable

from msgspec.structs import replace

from agent.core.judgement import shadow_text
from agent.protocol.latency import LatencySketch
from agent.protocol.runner import EndShadow, Shadow, ShadowReport
from agent.protocol.state import Reason, ShadowFigures, ShadowPolicy
from agent.supervisor.errors import RunnerDiedError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.priority import lowered
from agent.supervisor.runner_process import RunnerProcess

WATCH_SECONDS = 0.25
TELL_SECONDS = 10.0
"""Between two times that the hub is told how far it is; comparing may take hours."""
LAST_REPORT_SECONDS = 2.0
"""For the runner that serves to say what it had seen; one that is too busy to is not waited for."""

_SESSIONS = itertools.count(1)


class Shadowing:
    """Compares one model's candidates, one at a time."""

    def __init__(self, server: ModelServer, changed: Callable[[], None]) -> None:
        """``changed``: called when :attr:`state` is worth telling anew."""
        self._server = server
        self._changed = changed
        self.state: Reason | None = None
        """How far it is, while it goes on."""
        self._told = 0.0

    async def compare(self, candidate: RunnerProcess, policy: ShadowPolicy) -> ShadowFigures:
        """Have what serves feed ``candidate`` until enough was compared or the time is over.

        Whatever happens to the candidate, live requests are not touched by it. A runner that takes the place of the one
        that serves goes on feeding. Cancelled, it stops the copies and leaves both runners as they are.

        Raises:
            RunnerDiedError: the candidate is gone.
        """
        why_not = self._impossible(candidate)
        if why_not is not None:
            return ShadowFigures(text=why_not)
        comparison = _Comparison(self._server, candidate, policy, self._tell)
        try:
            return await comparison.run()
        finally:
            self._tell(None)

    def _impossible(self, candidate: RunnerProcess) -> str | None:
        active = self._server.active
        if active is None:
            return "not compared: nothing serves beside the candidate"
        ours, theirs = active.spec, candidate.spec
        if (ours.inputs, ours.outputs) != (theirs.inputs, theirs.outputs):
            return (
                f"not compared: its inputs or outputs are not those of release {ours.release}, which serves"
            )
        return None

    def _tell(self, text: str | None) -> None:
        before, now = self.state, time.monotonic()
        self.state = None if text is None else Reason(code="shadowing", text=f"shadowing: {text}")
        moved = before != self.state and now - self._told >= TELL_SECONDS
        if moved or (before is None) != (self.state is None):
            self._told = now
            self._changed()


class _Comparison:
    """One candidate, against whatever serves meanwhile."""

    def __init__(
        self,
        server: ModelServer,
        candidate: RunnerProcess,
        policy: ShadowPolicy,
        tell: Callable[[str], None],
    ) -> None:
        self._server = server
        self._candidate = candidate
        self._policy = policy
        self._tell = tell
        self._began = time.monotonic()
        self._feeder: RunnerProcess | None = None
        self._session = 0
        self._before: list[ShadowReport] = []
        """Last reports of feeders that are gone."""

    async def run(self) -> ShadowFigures:
        candidate = self._candidate
        with lowered(candidate.pid):
            candidate.lowered = True
            try:
                while not self._enough():
                    await self._feed()
                    self._tell(shadow_text(self._figures(), self._policy))
                    await self._wait()
            finally:
                await self._stop_feeding()
                candidate.lowered = False
        await self._check_candidate()
        figures = self._figures()
        return replace(figures, text=_summary(figures, self._policy))

    def _enough(self) -> bool:
        over = time.monotonic() - self._began >= self._policy.seconds
        return over or self._figures().requests >= self._policy.requests

    async def _feed(self) -> None:
        """Have the runner that serves feed the candidate, if it does not yet."""
        active = self._server.active
        if active is None or active is self._feeder or not active.alive:
            return
        await self._stop_feeding()
        self._feeder, self._session = active, next(_SESSIONS)
        await active.say(
            Shadow(
                session=self._session,
                path=str(self._candidate.private_path),
                share=self._policy.share,
                requests=max(1, self._policy.requests - self._figures().requests),
                tolerance=self._policy.tolerance,
            )
        )

    async def _wait(self) -> None:
        """A while, or until the candidate is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                await self._candidate.exited
        await self._check_candidate()

    async def _check_candidate(self) -> None:
        if not self._candidate.alive:
            reason = (await self._candidate.exited).reason
            text = f"while it was compared on live requests: {reason.text}"
            raise RunnerDiedError(Reason(code=reason.code, text=text))

    async def _stop_feeding(self) -> None:
        feeder = self._feeder
        if feeder is None:
            return
        if not self._heard_last(feeder):
            await feeder.say(EndShadow(session=self._session))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPORT_SECONDS):
                    while not self._heard_last(feeder):  # noqa: ASYNC110 - milliseconds, and only once
                        await asyncio.sleep(0.01)
        report = self._report()
        if report is not None:
            self._before.append(report)
        self._feeder = None

    def _heard_last(self, feeder: RunnerProcess) -> bool:
        report = self._report()
        return not feeder.alive or (report is not None and report.final)

    def _report(self) -> ShadowReport | None:
        """The newest of the session under way."""
        report = None if self._feeder is None else self._feeder.shadow_report
        return report if report is not None and report.session == self._session else None

    def _figures(self) -> ShadowFigures:
        now = self._report()
        reports = [*self._before, *([] if now is None else [now])]
        latencies = LatencySketch.of(report.latencies for report in reports)
        return ShadowFigures(
            requests=sum(report.requests for report in reports),
            rows=sum(report.rows for report in reports),
            disagreed=sum(report.disagreed for report in reports),
            failed=sum(report.failed for report in reports),
            dropped=sum(report.dropped for report in reports),
            p50_ms=_milliseconds(latencies, 0.50),
            p99_ms=_milliseconds(latencies, 0.99),
            seconds=time.monotonic() - self._began,
        )


def _milliseconds(latencies: LatencySketch, fraction: float) -> float | None:
    seconds = latencies.quantile(fraction)
    return None if seconds is None else seconds * 1e3


def _summary(figures: ShadowFigures, policy: ShadowPolicy) -> str:
    text = f"{shadow_text(figures, policy)} in {figures.seconds:.0f} s"
    if figures.requests < policy.requests:
        text += f"; it ended after {policy.seconds:g} s without the rest"
    if figures.dropped:
        text += f"; {figures.dropped} copies were dropped because the candidate was busy"
    return text
