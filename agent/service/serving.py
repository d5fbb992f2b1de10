"""What serves a committed release beside the worker: it is started until it runs, and watched while it does."""

import asyncio
import logging

from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol import telemetry
from agent.protocol.runner import Statistics
from agent.protocol.state import Reason, ServiceVerdict
from agent.service.mending import Mender
from agent.service.prover import ARTIFACT_DAMAGED, Prover, reason_of
from agent.service.service_watch import ServiceWatch
from agent.service.surroundings import Surroundings
from agent.supervisor.errors import SupervisorError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.serving import RunnerEvent

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts to start a release that must serve; the last one repeats."""
UNREADABLE = frozenset({"model-unreadable", "drift-reference"})
"""What a runner says that can't read what it is to load."""


class Serving:
    """Serves one model's committed release, until told otherwise."""

    def __init__(self, server: ModelServer, prover: Prover, around: Surroundings) -> None:
        self._server = server
        self._prover = prover
        self._around = around
        self._watch: ServiceWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._stands_in: Reason | None = None
        """Why something else serves in place of the release that should."""

    @property
    def verdict(self) -> ServiceVerdict | None:
        """Of the committed release's service level; None where none is declared or none is committed."""
        return None if self._watch is None else self._watch.verdict

    @property
    def degraded(self) -> Reason | None:
        """Why the committed release is served by its smaller variant, or by the release before it, if it is."""
        return self._stands_in or (None if self._watch is None else self._watch.degraded)

    def answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        """A runner of this model has reported."""
        if self._watch is not None:
            self._watch.answered(runner, statistics)

    def died(self, event: RunnerEvent) -> None:
        """The runner that serves has died."""
        if self._watch is None:
            return
        self._watch.died(event)
        if event.reason.code in UNREADABLE and self._around.mender is not None and self._looking is None:
            # What is started again is what was started before: a file that is damaged now would never load.
            self._looking = asyncio.create_task(self._look_at_files(self._watch.release, self._around.mender))

    async def serve(self, release: InstalledRelease) -> None:
        """Let ``release`` answer; where it can't start, say why on its address and go on trying beside the worker."""
        await self.pause()
        active = self._server.active
        if active is not None and active.alive and active.spec.deployment == release.deployment:
            self.committed(release)
            return
        self._watch = None
        against = await self._try(release)
        if against is None:
            self.committed(release)
        else:
            self._task = asyncio.create_task(self._later(release, against), name=f"serve-{release.model}")

    def committed(self, release: InstalledRelease) -> None:
        """``release`` is committed and serves: watch it, from where it was if it was watched before."""
        self._watch = self._watch_of(release)
        self._task = asyncio.create_task(self._watch_over(self._watch), name=f"watch-{release.model}")

    async def pause(self) -> None:
        """Stop what goes on; a swap that has begun goes on to its end."""
        tasks = [task for task in (self._task, self._looking) if task is not None]
        self._task = self._looking = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end(self) -> None:
        """Something else serves now."""
        await self.pause()
        self._watch = None
        self._stands_in = None

    def _watch_of(self, release: InstalledRelease) -> ServiceWatch:
        if self._watch is not None and self._watch.release == release:
            return self._watch
        return ServiceWatch(release, self._server, self._prover, self._around)

    async def _watch_over(self, watch: ServiceWatch) -> None:
        release = watch.release
        if self._stands_in is not None:
            self._stands_in = None
            await self._tell("info", release, f"release {release.release} serves again")
        if self._around.mender is not None:
            await self._around.mender.remember(release)
        await watch.run()

    async def _look_at_files(self, release: InstalledRelease, mender: Mender) -> None:
        """A runner could not read what is committed: where that is the disk's fault, let something else serve."""
        whole = await mender.whole(release)
        self._looking = None
        if whole:
            return
        against = Reason(
            code=ARTIFACT_DAMAGED, text=f"a file of release {release.release} is damaged on this device"
        )
        watch, self._watch = self._task, None
        self._task = asyncio.create_task(self._later(release, against), name=f"serve-{release.model}")
        if watch is not None:
            watch.cancel()

    async def _later(self, release: InstalledRelease, against: Reason) -> None:
        """Try again until it serves; what the disk has lost is fetched first, and something else serves meanwhile."""
        waits = iter(RETRY_SECONDS)
        while True:
            if against.code == ARTIFACT_DAMAGED and self._around.mender is not None:
                await self._stand_in(release, against, self._around.mender)
                await self._mend(release, self._around.mender)
            else:
                await asyncio.sleep(next(waits, RETRY_SECONDS[-1]))
            problem = await self._try(release)
            if problem is None:
                break
            if problem.code == against.code == ARTIFACT_DAMAGED:
                await asyncio.sleep(next(waits, RETRY_SECONDS[-1]))
            against = problem
        self._watch = self._watch_of(release)
        await self._watch_over(self._watch)

    async def _stand_in(self, release: InstalledRelease, against: Reason, mender: Mender) -> None:
        if self._stands_in is not None and self._server.ready:
            return
        for other in mender.stand_ins(release):
            if await self._try(other, beside=True) is None:
                what = f"release {other.release}, variant {other.variant}, serves until it is fetched again"
                self._stands_in = Reason(code=against.code, text=f"{against.text}; {what}")
                await self._tell("error", release, self._stands_in.text)
                return
        text = f"{against.text}; nothing on this device can stand in, it is fetched again"
        await self._server.deactivate(text)
        await self._tell("error", release, text)

    async def _mend(self, release: InstalledRelease, mender: Mender) -> None:
        try:
            await mender.mend(release)
        except ReleaseError as error:
            await self._tell(
                "error", release, f"release {release.release} can't be mended: {error.reason.text}"
            )
        else:
            await self._tell("info", release, f"the files of release {release.release} are whole again")

    async def _try(self, release: InstalledRelease, *, beside: bool = False) -> Reason | None:
        """Start it and let it serve; why not, where it can't. ``beside``: then clients are not told of it."""
        try:
            manifest = await self._prover.manifest(release)
            await self._server.activate(await self._prover.start(release, manifest, essential=True))
        except (SupervisorError, ReleaseError, OSError) as error:
            log.exception("a committed release does not start", extra={"release": release.release})
            if not beside and self._stands_in is None:
                await self._server.deactivate(f"release {release.release} does not start: {error}")
            return reason_of(error)
        return None

    async def _tell(self, severity: telemetry.Severity, release: InstalledRelease, text: str) -> None:
        await self._around.recorder.record(
            telemetry.Event(
                time=self._around.clock(),
                severity=severity,
                kind="artifact-damaged",
                text=text,
                model=release.model,
                release=release.release,
                deployment=release.deployment,
            )
        )
        self._around.changed()
