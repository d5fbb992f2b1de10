"""Watches a committed release while it serves, and degrades it on purpose.

Its smaller variant serves while the chosen one can't keep its service level. When is decided by
:mod:`agent.core.degrade`; nothing is swapped in that was not proven here and now.
"""

import asyncio
import logging
import time

from agent.core.degrade import DegradePolicy, Look, Move, begin, moved, observe, refused
from agent.core.service_level import RollingServiceLevel
from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol import telemetry
from agent.protocol.manifest import Manifest
from agent.protocol.runner import Statistics
from agent.protocol.state import Measurement, Reason, ServiceVerdict
from agent.service.prover import Prover, reason_of
from agent.service.surroundings import Surroundings
from agent.supervisor.errors import SupervisorError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.serving import RunnerEvent

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Runners report as often."""


class ServiceWatch:
    """One release from its commit until something else serves."""

    def __init__(
        self, release: InstalledRelease, server: ModelServer, prover: Prover, around: Surroundings
    ) -> None:
        self.release = release
        self.verdict: ServiceVerdict | None = None
        """None without a service level for this hardware class."""
        self.degraded: Reason | None = None
        """Why the smaller variant serves; None while the chosen one does."""
        self._server = server
        self._prover = prover
        self._around = around
        serving = around.config.serving
        self._policy = DegradePolicy(
            degrade_after=serving.degrade_after_seconds, restore_after=serving.restore_after_seconds
        )
        self._standing = begin(time.monotonic(), self._policy)
        self._rolling: RollingServiceLevel | None = None
        self._told_broken = False
        self._looping: tuple[float, Reason] | None = None
        """The last death in a crash loop, and when it was."""

    def answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        """A runner has reported; what is not by the one that serves now counts no more."""
        if self._rolling is not None and runner is self._server.active:
            self._rolling.add(statistics.recent, time.monotonic())

    def died(self, event: RunnerEvent) -> None:
        """The runner that serves has died."""
        if event.kind == "runner-died" and event.looping:
            self._looping = (time.monotonic(), event.reason)

    async def run(self) -> None:
        """Watch until cancelled; a second time it goes on where it was."""
        try:
            manifest = await self._prover.manifest(self.release)
        except (ReleaseError, OSError) as error:
            log.error("the service level is not watched", extra={"why": str(error)})  # noqa: TRY400 - its text says all
            return
        budget = manifest.budgets.get(self._around.config.device.hardware_class)
        if self._rolling is None and budget is not None and budget.slo is not None:
            self._rolling = RollingServiceLevel(budget.slo)
        while True:
            try:
                await self._look(manifest)
            except Exception:  # whatever it is, what serves goes on serving
                log.exception("a look at the service level failed", extra={"model": self.release.model})
            await asyncio.sleep(LOOK_SECONDS)

    def _take_note_of_what_serves(self) -> None:
        """A swap that was under way when the watch was cut short has gone on without it."""
        active, standby = self._server.active, self.release.standby
        if active is None or standby is None:
            return
        on_standby = active.spec.variant == standby.variant
        if on_standby is not self._standing.degraded:
            text = "the swap to the smaller variant was under way when something else was decided"
            self._now_serves(Reason(code="degraded-before", text=text) if on_standby else None)

    async def _look(self, manifest: Manifest) -> None:
        self._take_note_of_what_serves()
        now = time.monotonic()
        if self._rolling is not None:
            self.verdict = self._rolling.verdict(now)
            await self._tell_turns(self.verdict)
        self._standing, move = observe(self._standing, self._how_it_looks(now), now, self._policy)
        if move is Move.STAY or self._prover.turn.locked():
            return
        if move is Move.RESTORE:
            await self._swap(self.release, manifest)
        elif (smaller := self.release.degraded()) is not None:
            await self._swap(smaller, manifest)

    def _how_it_looks(self, now: float) -> Look:
        if self._looping is not None:
            if not self._server.ready or now - self._looping[0] < self._policy.degrade_after:
                return Look.DOWN
            self._looping = None
        broken = self.verdict is not None and self.verdict.level == "broken"
        return Look.BROKEN if broken else Look.FINE

    async def _swap(self, target: InstalledRelease, manifest: Manifest) -> None:
        """Let the other variant serve, once it has proven itself; else stay, say so, and try again after a while."""
        why = self._why()
        try:
            measured = await self._prove_and_activate(target, manifest)
        except (
            Exception
        ) as error:  # nothing that keeps a variant out may end the watch, or be tried at every look
            if not isinstance(error, SupervisorError | ReleaseError):
                log.exception("a variant was not let in", extra={"variant": target.variant})
            self._standing = refused(self._standing, time.monotonic(), self._policy)
            wait = self._standing.not_before - time.monotonic()
            text = f"{target.variant} is not let in: {reason_of(error).text}; tried again in {wait:.0f} s"
            await self._tell("restore-refused" if self._standing.degraded else "degrade-refused", text)
            return
        figures = (
            f"its p99 here is {measured.p99_ms:.3g} ms, its peak memory {measured.peak_memory_mib:.1f} MiB"
        )
        if self._standing.degraded:
            self._now_serves(None)
            text = f"{target.variant}, the chosen variant, serves again ({figures}); {why.text}"
            await self._tell("restored", text, severity="info")
        else:
            self._now_serves(why)
            text = f"{target.variant} serves in place of {self.release.variant} ({figures}): {why.text}"
            await self._tell("degraded", text)

    async def _prove_and_activate(self, target: InstalledRelease, manifest: Manifest) -> Measurement:
        async with self._prover.turn:
            runner = await self._prover.start(target, manifest)
            try:
                measured = (await self._prover.prove(runner, target, manifest)).demand()
            except BaseException:
                await self._server.discard(runner)
                raise
            await self._server.activate(runner)
            return measured

    def _why(self) -> Reason:
        """What moves it, in words, before its figures are forgotten."""
        lasted = f"for {time.monotonic() - self._standing.unchanged:.0f} s"
        if self._looping is not None:
            return Reason(
                code="runner-dies", text=f"its runner died again and again: {self._looping[1].text}"
            )
        verdict = self.verdict
        if verdict is None:
            return Reason(code="service-level-ok", text=f"the runner of the smaller one lived {lasted}")
        code = f"service-level-{verdict.level.replace(' ', '-')}"
        return Reason(code=code, text=f"the service level was {verdict.level} {lasted}: {verdict.text}")

    def _now_serves(self, degraded: Reason | None) -> None:
        """The other variant serves: it is judged by what it answers itself."""
        self._standing = moved(self._standing, time.monotonic(), self._policy)
        self.degraded = degraded
        self._looping = None
        if self._rolling is not None:
            self._rolling = RollingServiceLevel(self._rolling.level)
        self._around.changed()

    async def _tell_turns(self, verdict: ServiceVerdict) -> None:
        if verdict.level == "broken" and not self._told_broken:
            self._told_broken = True
            await self._tell("service-level", f"the service level is broken: {verdict.text}")
        elif verdict.level == "ok" and self._told_broken:
            self._told_broken = False
            await self._tell(
                "service-level", f"the service level is kept again: {verdict.text}", severity="info"
            )

    async def _tell(self, kind: str, text: str, severity: telemetry.Severity = "warning") -> None:
        log.warning(kind, extra={"model": self.release.model, "release": self.release.release, "text": text})
        self._around.changed()
        await self._around.recorder.record(
            telemetry.Event(
                time=self._around.clock(),
                severity=severity,
                kind=kind,
                text=text,
                model=self.release.model,
                release=self.release.release,
                deployment=self.release.deployment,
            )
        )
