"""What serves a committed release beside the worker: it is started until it runs, and watched while it does."""

import asyncio
import logging

from agent.core.slots import InstalledRelease
from agent.errors import ReleaseError
from agent.protocol.runner import Statistics
from agent.protocol.state import Reason, ServiceVerdict
from agent.service.prover import Prover
from agent.service.service_watch import ServiceWatch
from agent.service.surroundings import Surroundings
from agent.supervisor.errors import SupervisorError
from agent.supervisor.model_server import ModelServer
from agent.supervisor.runner_process import RunnerProcess
from agent.supervisor.serving import RunnerEvent

log = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Waits between attempts to start a release that must serve; the last one repeats."""


class Serving:
    """Serves one model's committed release, until told otherwise."""

    def __init__(self, server: ModelServer, prover: Prover, around: Surroundings) -> None:
        self._server = server
        self._prover = prover
        self._around = around
        self._watch: ServiceWatch | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def verdict(self) -> ServiceVerdict | None:
        """Of the committed release's service level; None where none is declared or none is committed."""
        return None if self._watch is None else self._watch.verdict

    @property
    def degraded(self) -> Reason | None:
        """Why the committed release is served by its smaller variant, if it is."""
        return None if self._watch is None else self._watch.degraded

    def answered(self, runner: RunnerProcess, statistics: Statistics) -> None:
        """A runner of this model has reported."""
        if self._watch is not None:
            self._watch.answered(runner, statistics)

    def died(self, event: RunnerEvent) -> None:
        """The runner that serves has died."""
        if self._watch is not None:
            self._watch.died(event)

    async def serve(self, release: InstalledRelease) -> None:
        """Let ``release`` answer; where it can't start, say why on its address and go on trying beside the worker."""
        await self.pause()
        active = self._server.active
        if active is not None and active.alive and active.spec.deployment == release.deployment:
            self.committed(release)
            return
        self._watch = None
        if await self._try(release):
            self.committed(release)
        else:
            self._task = asyncio.create_task(self._later(release), name=f"serve-{release.model}")

    def committed(self, release: InstalledRelease) -> None:
        """``release`` is committed and serves: watch it, from where it was if it was watched before."""
        if self._watch is None or self._watch.release != release:
            self._watch = ServiceWatch(release, self._server, self._prover, self._around)
        self._task = asyncio.create_task(self._watch.run(), name=f"watch-{release.model}")

    async def pause(self) -> None:
        """Stop what goes on; a swap that has begun goes on to its end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end(self) -> None:
        """Something else serves now."""
        await self.pause()
        self._watch = None

    async def _later(self, release: InstalledRelease) -> None:
        waits = iter(RETRY_SECONDS)
        while True:
            await asyncio.sleep(next(waits, RETRY_SECONDS[-1]))
            if await self._try(release):
                break
        self._watch = ServiceWatch(release, self._server, self._prover, self._around)
        await self._watch.run()

    async def _try(self, release: InstalledRelease) -> bool:
        try:
            manifest = await self._prover.manifest(release)
            await self._server.activate(await self._prover.start(release, manifest, essential=True))
        except (SupervisorError, ReleaseError, OSError) as error:
            log.exception("a committed release does not start", extra={"release": release.release})
            await self._server.deactivate(f"release {release.release} does not start: {error}")
            return False
        return True
