"""What the parts that serve one model share with those of every other model."""

import asyncio
from collections.abc import Awaitable, Callable

from msgspec import Struct, field

from agent.config import AgentConfig
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
