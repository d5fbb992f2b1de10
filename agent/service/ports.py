"""What the service asks of the other rooms."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from agent.core.commands import (
    ActivateCandidate,
    AwaitPermission,
    CommitRelease,
    DiscardCandidate,
    FetchRelease,
    ProbeCandidate,
    ReportOutcome,
    ReportReversal,
    RestorePrevious,
    ServeActive,
    WatchProbation,
)
from agent.core.events import Event
from agent.protocol.ids import Digest
from agent.protocol.telemetry import Body
from agent.protocol.telemetry import Event as TelemetryEvent


class Executor(Protocol):
    """Executes one model's commands; each method returns the event that answers the command, if it has an answer.

    A method may be cancelled at any await and called again with the same command.
    """

    async def fetch(self, command: FetchRelease) -> Event: ...
    async def permit(self, command: AwaitPermission) -> Event: ...
    async def probe(self, command: ProbeCandidate) -> Event: ...
    async def activate(self, command: ActivateCandidate) -> Event: ...
    async def watch(self, command: WatchProbation) -> Event: ...
    async def commit(self, command: CommitRelease) -> None: ...
    async def restore(self, command: RestorePrevious) -> Event: ...
    async def discard(self, command: DiscardCandidate) -> None: ...
    async def report(self, command: ReportOutcome | ReportReversal) -> Event: ...
    async def serve(self, command: ServeActive) -> None: ...


class Recorder(Protocol):
    """Durable telemetry: the event is in the outbox and in the local log when the call returns."""

    async def record(self, body: Body) -> None: ...

    async def record_once(self, event: TelemetryEvent) -> None:
        """Record an outcome of a deployment, unless an event of its kind and deployment is recorded already."""
        ...


class StatePort(Protocol):
    """Durable state by key; a write has reached the disk when the call returns."""

    async def get(self, key: str) -> bytes | None: ...
    async def put(self, key: str, value: bytes) -> None: ...


class RequestStore(StatePort, Protocol):
    """Durable state of which several keys are asked for, or changed, together."""

    async def get_all(self, prefix: str = "") -> dict[str, bytes]: ...
    async def put_many(self, values: Mapping[str, bytes | None]) -> None: ...


class Downloader(Protocol):
    """Content-addressed bytes: fetched from the hub, kept, found again."""

    async def obtain(self, digest: Digest, size: int, progress: Callable[[int], None]) -> Path:
        """The path of the complete, verified artifact; fetches what is missing, resuming where it stopped."""
        ...

    def alone(self, digest: Digest) -> asyncio.Lock:
        """Whoever makes this artifact by other means holds this meanwhile: then nobody fetches it too."""
        ...
