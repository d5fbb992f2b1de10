"""What the parts that serve one model share with those of every other model."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct, field

from agent.config import AgentConfig
from agent.core.preconditions import Conditions, Facts, Order
from agent.core.trusted_time import BUILD_TIME
from agent.service.facts import gather
from agent.service.mending import Mender
from agent.service.ports import Recorder
from agent.service.transfers import Transfers
from agent.store.artifacts import ArtifactStore


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a device's executors share."""

    config: AgentConfig
    artifacts: ArtifactStore
    runtimes: frozenset[str]
    transfers: Transfers = field(default_factory=Transfers)
    recorder: Recorder
    collect: Callable[[], Awaitable[None]]
    """Garbage collection over all models."""
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while artifacts are collected; a fetch waits for it, so that nothing it counts on is taken from under it."""
    changed: Callable[[], None]
    """Something that reported state tells is different now."""
    clock: Callable[[], float]
    conditions: Conditions = Conditions()
    """What the device's owner asks for before an update is downloaded, and before it is installed."""
    order: Callable[[str, str], Order] = lambda _model, _deployment: Order()
    """What is asked of a model's deployment now."""
    mender: Mender | None = None
    """None: a release whose files are damaged waits for better times."""

    def facts(self) -> Facts:
        """How the device stands, as far as :attr:`conditions` ask; not on the event loop."""
        return gather(self.conditions, self.config.state, now=self.clock(), earliest=BUILD_TIME)
