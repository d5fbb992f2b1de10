"""Batches as devices send them: windows of a given number of signals, alone or with events and health beside them."""

import random

from msgspec import Struct

from agent.protocol.batch_codec import encode_batch
from agent.protocol.drift import DriftWindow, MovedSignal, SignalCounts, Verdict
from agent.protocol.telemetry import Body, Event, Health, Record, TelemetryBatch, Window
from agent.protocol.topics import Channel, topic

BINS = 20
ROWS = 500
DISTINCT = 64
"""Windows that are made; devices and sequences share them out."""


class Shape(Struct, frozen=True, kw_only=True):
    """What one batch is."""

    name: str
    signals: int
    events: int = 0
    """Beside the window; half of them are health."""

    @property
    def records(self) -> int:
        return 1 + self.events


SHAPES = (
    Shape(name="one window of 10 signals", signals=10),
    Shape(name="one window of 64 signals", signals=64),
    Shape(name="a window of 10 signals and 8 records of events and health", signals=10, events=8),
)


class Load(Struct, frozen=True, kw_only=True):
    """What one publisher sends."""

    shape: Shape
    devices: tuple[str, ...]
    batches: int
    """A device."""


def device_names(count: int) -> tuple[str, ...]:
    return tuple(f"device-{number:04}" for number in range(count))


def messages(load: Load) -> list[tuple[str, bytes]]:
    """Topic and payload of every batch; devices take turns."""
    windows = [_window(load.shape.signals, random.Random(seed)) for seed in range(DISTINCT)]  # noqa: S311 - no secret
    found = []
    for turn in range(load.batches):
        for place, device in enumerate(load.devices):
            bodies = [*_small(load.shape.events, turn), windows[(turn + place) % DISTINCT]]
            first = turn * len(bodies) + 1
            records = tuple(Record(sequence=first + index, body=body) for index, body in enumerate(bodies))
            batch = TelemetryBatch(device=device, epoch="epoch-1", records=records)
            found.append((topic(device, Channel.TELEMETRY), encode_batch(batch)))
    return found


def _small(count: int, turn: int) -> list[Body]:
    return [
        Health(
            time=1.8e9 + turn,
            cpu_percent=12.5,
            memory_available_mib=512.0,
            disk_free_mib=4096.0,
            temperature_c=51.0,
            thermal="ok",
            load=0.4,
            supervisor_pss_mib=26.0,
        )
        if index % 2
        else Event(
            time=1.8e9 + turn,
            severity="info",
            kind="deployment",
            text="digits 7 answers: probation has begun",
            model="digits",
            release=7,
        )
        for index in range(count)
    ]


def _window(signals: int, source: random.Random) -> Window:
    counted = {f"sensor-{number:02}.mean": SignalCounts(counts=_counts(source)) for number in range(signals)}
    moved = tuple(
        MovedSignal(
            signal=name,
            level="ok",
            rows=ROWS,
            statistic="psi",
            value=round(source.random() / 20, 4),
            p_value=0.4,
        )
        for name in list(counted)[:3]
    )
    verdict = Verdict(
        level="ok",
        rows=ROWS,
        correction="benjamini-hochberg",
        alpha=0.01,
        judged=signals,
        moved_most=moved,
        reason=f"none of {signals} signals moved",
    )
    return Window(
        window=DriftWindow(
            model="digits",
            release=7,
            deployment="rollout-7",
            artifact="5e" * 32,
            opened=1.8e9,
            closed=1.8e9 + 3600,
            rows=ROWS,
            signals=counted,
            verdict=verdict,
        )
    )


def _counts(source: random.Random) -> tuple[int, ...]:
    """A bell over the bins, one under, one over."""
    counts = [0] * (BINS + 2)
    for _ in range(ROWS):
        counts[min(max(int(source.gauss((BINS + 2) / 2, 3)), 0), BINS + 1)] += 1
    return tuple(counts)
