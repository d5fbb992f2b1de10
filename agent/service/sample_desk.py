"""Samples for whoever stands at the device: what is kept, what has left, delete all, take a copy."""

from collections.abc import Callable

from agent.config import AgentConfig, SamplesConfig
from agent.protocol.control import Done, SampleFileResult, SamplesResult
from agent.protocol.telemetry import Event
from agent.service.ports import Recorder
from agent.service.sample_keeping import SampleKeeper, view
from agent.store.outbox import Outbox
from agent.store.sample_ledger import SampleLedger
from agent.store.samples import SampleRing

FOLDER = "samples"
DEPARTURES = 20


def sample_ring(config: AgentConfig) -> SampleRing:
    """The ring that the settings ask for; nothing is read or made yet."""
    samples = config.samples
    return SampleRing(
        config.state / FOLDER,
        maximum_bytes=samples.bytes,
        maximum_count=samples.count,
        days=samples.days,
        written_bytes_per_day=samples.written_bytes_per_day,
    )


class SampleDesk:
    """The part of :class:`agent.service.control_server.ControlHandler` that is about samples."""

    def __init__(
        self,
        config: SamplesConfig,
        keeper: SampleKeeper,
        outbox: Outbox,
        ledger: SampleLedger,
        recorder: Recorder,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._keeper = keeper
        self._outbox = outbox
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock

    async def show(self, model: str | None, limit: int) -> SamplesResult:
        """What is kept (of one model, or of all), the newest first, and what was asked for by whom."""
        entries = [each for each in self._keeper.entries() if model is None or each.model == model]
        left = await self._ledger.left()
        return SamplesResult(
            enabled=self._config.enabled,
            may_leave=self._config.may_leave,
            samples=tuple(view(each, left.get(each.id)) for each in entries[:limit]),
            count=len(entries),
            size_bytes=sum(each.size for each in entries),
            maximum_bytes=self._config.bytes,
            departures=await self._ledger.departures(DEPARTURES),
        )

    async def clear(self, who: str) -> Done:
        """Delete all, also what waits for the hub; written down with who did it."""
        async with self._keeper.departing:
            cleared = await self._keeper.clear()
            waiting = await self._outbox.forget_samples()
        text = f"{cleared} samples were deleted, and {waiting} that waited for the hub, by {who}"
        await self._recorder.record(
            Event(time=self._clock(), severity="info", kind="samples-cleared", text=text)
        )
        return Done(message=text)

    async def export(self, after: str | None, who: str) -> SampleFileResult:
        """One sample whole; the first one asked for in an export is written down with who asks."""
        if after is None:
            count = len(self._keeper.entries())
            text = f"{count} samples were exported on the device by {who}"
            await self._recorder.record(
                Event(time=self._clock(), severity="info", kind="samples-exported", text=text)
            )
        return SampleFileResult(sample=await self._keeper.after(after))
