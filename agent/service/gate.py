"""Waits for what a device asks for before it downloads and before it installs, and says what that is.

What is missing is looked for again every few seconds, and at once when a hold, the desired state or an acceptance changed.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from msgspec.structs import replace

from agent.core.preconditions import Conditions, Facts, Order, Waiting, judge_download, judge_install
from agent.protocol.state import Acceptance

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between looks at what may have changed by itself; a window opens on time."""
SHORTEST_SECONDS = 0.05

Judge = Callable[[Facts], Waiting | None]
T = TypeVar("T")


class Gate:
    """One model's.

    Args:
        gather: the facts of now; called off the event loop.
        order: what is asked of a deployment, by its id; what was accepted is filled in here.
        changed: called when something else is waited for than before.
    """

    def __init__(
        self,
        model: str,
        conditions: Conditions,
        *,
        gather: Callable[[], Facts],
        order: Callable[[str], Order],
        changed: Callable[[], None],
    ) -> None:
        self.waiting: Waiting | None = None
        """What is waited for now."""
        self._model = model
        self._conditions = conditions
        self._gather = gather
        self._order = order
        self._changed = changed
        self._look_again = asyncio.Event()
        self._looked = 0.0

    def reconsider(self) -> None:
        """Something that is asked for has changed."""
        self._look_again.set()

    async def installable(self, deployment: str, accepted: Acceptance | None) -> None:
        """Returns when the deployment may be installed."""

        def judge(facts: Facts) -> Waiting | None:
            order = replace(self._order(deployment), accepted=accepted)
            return judge_install(self._conditions, facts, order, self._model)

        await self._opened(judge)

    async def downloading(
        self, deployment: str, accepted: Acceptance | None, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Run ``work`` while downloading is allowed; where it no longer is, stop it, and begin it again when it is.

        ``work`` must go on where it was stopped.
        """

        def judge(facts: Facts) -> Waiting | None:
            order = replace(self._order(deployment), accepted=accepted)
            return judge_download(self._conditions, facts, order)

        while True:
            await self._opened(judge)
            task = asyncio.create_task(work(), name=f"download-{self._model}")
            try:
                while True:
                    await self._pause(task)
                    if task.done() or await self._judge(judge) is not None:
                        break
            finally:
                task.cancel()
                await asyncio.wait({task})
            if not task.cancelled():
                self._now_waits(None)
                return task.result()

    async def _opened(self, judge: Judge) -> None:
        try:
            while (waiting := await self._judge(judge)) is not None:
                await self._pause(until=waiting.until)
        finally:
            self._now_waits(None)

    async def _judge(self, judge: Judge) -> Waiting | None:
        self._look_again.clear()  # before the look: what changes after it is looked at again
        facts = await asyncio.to_thread(self._gather)
        self._looked = facts.now
        waiting = judge(facts)
        self._now_waits(waiting)
        return waiting

    def _now_waits(self, waiting: Waiting | None) -> None:
        before, self.waiting = self.waiting, waiting
        if (before and before.reason.code) != (waiting and waiting.reason.code):
            log.info("waits", extra={"model": self._model, "for": waiting.reason.text if waiting else None})
            self._changed()

    async def _pause(self, task: asyncio.Task[T] | None = None, *, until: float | None = None) -> None:
        """Until the next look: some seconds, or until something changed, ``task`` ended, or it is ``until``."""
        seconds = LOOK_SECONDS
        if until is not None:
            seconds = min(seconds, max(SHORTEST_SECONDS, until - self._looked))
        change = asyncio.ensure_future(self._look_again.wait())
        waited: set[asyncio.Future[Any]] = {change} if task is None else {change, task}
        try:
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()
