"""One candidate on probation: what it answers, how it lives and what drift says is gathered, until the evidence is enough."""

import asyncio
import time

from agent.core.events import Event, ProbationFailed, ProbationPassed
from agent.core.preconditions import Waiting
from agent.core.probation import ProbationLevel, Seen, judge_probation
from agent.core.slots import InstalledRelease
from agent.protocol.drift import DriftWindow
from agent.protocol.latency import slower_than
from agent.protocol.manifest import Manifest
from agent.protocol.runner import Statistics
from agent.protocol.state import Reason
from agent.service.prover import Prover, reason_of
from agent.supervisor.errors import ProbeFailedError, SupervisorError
from agent.supervisor.model_server import ModelServer

LOOK_SECONDS = 0.25
BUSY = "busy"
"""A runner can't be checked while it answers: then somebody asks after all."""


class ProbationWatch:
    """Made before the candidate takes over, so that nothing it does is missed."""

    def __init__(
        self, candidate: InstalledRelease, manifest: Manifest, hardware_class: str, server: ModelServer
    ) -> None:
        self.deployment = candidate.deployment
        self._candidate = candidate
        self._manifest = manifest
        budget = manifest.budgets.get(hardware_class)
        self._level = None if budget is None else budget.slo
        self._server = server
        self._died: Reason | None = None
        self._drift: str | None = None
        self._slow = 0
        self._began = time.monotonic()
        self.waiting: Waiting | None = None
        """What the evidence lacks."""

    def died(self, reason: Reason) -> None:
        """Its runner has died."""
        self._died = reason

    def answered(self, statistics: Statistics) -> None:
        """Its runner has reported."""
        if self._level is not None:
            self._slow += slower_than(statistics.recent.latencies, self._level.p99_ms / 1e3)

    def window(self, window: DriftWindow) -> None:
        """A drift window of it was closed.

        One that says ``drift`` is enough, and no alarm is waited for: probation may be over before a second window is
        full, and such a verdict, unlike ``warning``, needs a large change that is no chance: none of 12,000 windows without
        drift had it (``docs/drift-power.md``). Rolling back for nothing costs a new rollout; keeping a release that drifts, answers.
        """
        if window.verdict.level == "drift":
            self._drift = window.verdict.reason

    def activated(self) -> None:
        """It answers since now."""
        self._began = time.monotonic()

    async def run(self, prover: Prover) -> Event:
        """Until it has passed or failed."""
        checked, against = False, None
        while True:
            if self._died is not None:
                return ProbationFailed(deployment=self.deployment, reason=self._died)
            verdict = judge_probation(
                self._seen(checked=checked, against=against), self._manifest.probation, self._level
            )
            if verdict.level is ProbationLevel.FAIL:
                return ProbationFailed(deployment=self.deployment, reason=verdict.reason)
            if verdict.level is ProbationLevel.PASS:
                return ProbationPassed(deployment=self.deployment)
            self.waiting = Waiting(reason=verdict.reason)
            if verdict.level is ProbationLevel.CHECK:
                checked, against = await self._check(prover)
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def _seen(self, *, checked: bool, against: Reason | None) -> Seen:
        runner = self._server.active
        mine = runner is not None and runner.spec.deployment == self.deployment
        statistics = runner.statistics if runner is not None and mine else None
        return Seen(
            elapsed=time.monotonic() - self._began,
            alive=self._server.ready,
            requests=statistics.requests if statistics else 0,
            failures=statistics.failures if statistics else 0,
            not_finite=statistics.not_finite if statistics else 0,
            slow=self._slow,
            drift=self._drift,
            checked=checked,
            against=against,
        )

    async def _check(self, prover: Prover) -> tuple[bool, Reason | None]:
        """Have it answer its golden inputs while it serves: whether that could be asked, and what speaks against it."""
        runner = self._server.active
        if runner is None:
            await asyncio.sleep(LOOK_SECONDS)
            return False, None
        try:
            return True, await prover.check(runner, self._manifest)
        except ProbeFailedError as error:
            if error.reason.code == BUSY:
                await asyncio.sleep(LOOK_SECONDS)
                return False, None
            return True, error.reason
        except SupervisorError as error:
            return True, reason_of(error)
