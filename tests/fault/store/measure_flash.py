"""What a day of telemetry writes to flash: ``python -m tests.fault.store.measure_flash``.

Days pass in seconds, and everything that writes is the agent's own: the recorder, the outbox and its history, the ledger of bytes, the
open windows that are written down now and then, batches that are offered and acknowledged. What is
written is counted by the kernel for this process (``/proc/self/io``): ``write_bytes``, what went to the block device, and
``wchar``, what was given to write calls. The file system's own journal is in neither.
"""

import argparse
import asyncio
import math
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from agent.core.sending import DAY, HOUR
from agent.protocol.batch_codec import encode_batch
from agent.protocol.drift import DriftWindow, MovedSignal, SignalCounts, SignalVerdict, Verdict
from agent.protocol.runner import WindowClosed
from agent.protocol.telemetry import Event, Health, Record, TelemetryAck, TelemetryBatch, Window
from agent.service import recorder as recorder_module
from agent.service.recorder import TelemetryRecorder
from agent.store import database as database_module
from agent.store.database import Database
from agent.store.events import EventLog
from agent.store.ledger import FLUSH_SECONDS, Ledger
from agent.store.open_windows import OpenWindowStore
from agent.store.outbox import Outbox
from agent.store.schema import migrate
from agent.store.writer import Writer

START = 1_795_000_000.0
HEALTH_SECONDS = 300.0
CHECKPOINT_SECONDS = 300.0
GATHER_SECONDS = 60.0
WINDOW_SECONDS = HOUR
EVENTS_A_DAY = 10


class Written(Struct, frozen=True, kw_only=True):
    """Bytes a day, means."""

    block_layer: float
    write_calls: float
    records: float


def io_counters() -> tuple[int, int]:
    """What this process has had written to storage, and has given to write calls, bytes."""
    values = dict(line.split(": ") for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines())
    return int(values["write_bytes"]), int(values["wchar"])


def window(chance: random.Random, closed: float, signals: int) -> WindowClosed:
    """500 rows of each of ``signals`` signals in 20 bins."""
    names = [f"signal-{number:02}" for number in range(signals)]
    counts = {}
    for name in names:
        bins = [0] * 22
        for _ in range(500):
            bins[min(21, max(0, round(chance.gauss(11, 3))))] += 1
        counts[name] = SignalCounts(counts=tuple(bins))
    moved = tuple(
        MovedSignal(
            signal=name, level="ok", rows=500, statistic="psi", value=chance.random() / 20, p_value=0.5
        )
        for name in names[:3]
    )
    one = DriftWindow(
        model="digits",
        release=1,
        deployment="rollout-7.camera-1",
        artifact="ab" * 32,
        opened=closed - WINDOW_SECONDS,
        closed=closed,
        rows=500,
        signals=counts,
        verdict=Verdict(
            level="ok",
            rows=500,
            correction="benjamini-hochberg",
            alpha=0.01,
            judged=signals,
            moved_most=moved,
            reason="No drift: signal-00 (PSI 0.03, corrected p 0.51) moved most, within limits; 500 rows.",
        ),
    )
    verdict = SignalVerdict(
        level="ok", rows=500, psi=0.03, js=0.1, ks=0.02, wasserstein=0.1, p_value=0.51,
        missing_rate=0.0, not_finite_rate=0.0, outside_rate=0.01,
    )  # fmt: skip
    return WindowClosed(window=one, signals=dict.fromkeys(names, verdict), drift_state=bytes(600))


def health(chance: random.Random, now: float) -> Health:
    return Health(
        time=now,
        cpu_percent=round(chance.uniform(1, 40), 1),
        memory_available_mib=round(chance.uniform(400, 800), 1),
        disk_free_mib=round(chance.uniform(4_000, 4_100), 1),
        temperature_c=round(chance.uniform(40, 60), 1),
        thermal="ok",
        load=round(chance.uniform(0, 1), 2),
        supervisor_pss_mib=27.5,
    )


class Life:
    """A device whose days pass in seconds."""

    def __init__(self, database: Database, signals: int) -> None:
        self.now = START
        self.database = database
        self.outbox = Outbox(database, device="camera-1", maximum_bytes=32 << 20, clock=lambda: self.now)
        self.recorder = TelemetryRecorder(self.outbox, EventLog(database), sys.exit)
        self.ledger = Ledger(database, clock=lambda: self.now)
        self.open = OpenWindowStore(database)
        self.chance = random.Random(7)
        self.windows = [window(self.chance, START, signals) for _ in range(24)]

    async def day(self) -> None:
        """One minute after the other."""
        for minute in range(int(DAY / 60)):
            self.now += 60.0
            at = (minute + 1) * 60.0
            self.ledger.add("reported", bytes_out=900)
            if at % HEALTH_SECONDS == 0:
                await self.recorder.record_health(health(self.chance, self.now))
            if at % CHECKPOINT_SECONDS == 0 and at % WINDOW_SECONDS:
                await self.open.keep([self._window(minute)])
            if at % WINDOW_SECONDS == 0:
                await self.recorder.record(self._window(minute))
            if minute % (24 * 60 // EVENTS_A_DAY) == 0:
                text = "release 2 is probing"
                await self.recorder.record(
                    Event(time=self.now, severity="info", kind="deployment", text=text)
                )
            if at % FLUSH_SECONDS == 0:
                await self.ledger.flush()
            await self._send()

    def _window(self, minute: int) -> WindowClosed:
        one = self.windows[minute // 60 % 24]
        opened = START + (math.ceil((self.now - START) / WINDOW_SECONDS) - 1) * WINDOW_SECONDS
        return replace(one, window=replace(one.window, opened=opened, closed=self.now))

    async def _send(self) -> None:
        while (batch := await self.outbox.next_batch(64 * 1024)) is not None:
            self.ledger.add("telemetry", bytes_out=2_000, bytes_in=200)
            sequences = tuple(record.sequence for record in batch.records)
            await self.outbox.acknowledge(TelemetryAck(epoch=batch.epoch, sequences=sequences))


async def measure(folder: Path, *, days: int, signals: int) -> Written:
    """The mean of ``days`` days, after one to warm up."""
    migrate(folder)
    writer = Writer()
    database = await Database.open(folder / "telemetry.db", writer)
    life = Life(database, signals)
    await life.day()
    before, recorded = io_counters(), (await life.outbox.report()).recorded
    for _ in range(days):
        await life.day()
    blocks, calls = (after - was for after, was in zip(io_counters(), before, strict=True))
    records = (await life.outbox.report()).recorded - recorded
    await database.close()
    await writer.close()
    return Written(block_layer=blocks / days, write_calls=calls / days, records=records / days)


def report(days: int, signals: int, folder: Path | None) -> Written:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        return asyncio.run(measure(Path(place), days=days, signals=signals))


def compare(days: int, folder: Path | None) -> Iterator[tuple[str, Written]]:
    """The same days with one thing otherwise, in words."""
    opened, usual = database_module._open, sys.modules[__name__]

    def with_pragma(pragma: str) -> Callable[..., sqlite3.Connection]:
        def _open(path: Path, *, read_only: bool) -> sqlite3.Connection:
            connection = opened(path, read_only=read_only)
            connection.execute(f"PRAGMA {pragma}")
            return connection

        return _open

    changes: list[tuple[str, list[tuple[object, str, object]]]] = [
        ("as it is", []),
        (
            "each sample of health alone, ledger every 5 minutes",
            [(recorder_module, "HELD_SAMPLES", 1), (usual, "FLUSH_SECONDS", 300.0)],
        ),
        ("ledger every 5 minutes", [(usual, "FLUSH_SECONDS", 300.0)]),
        ("open windows every 15 minutes", [(usual, "CHECKPOINT_SECONDS", 900.0)]),
        ("open windows never", [(usual, "CHECKPOINT_SECONDS", 1e9)]),
        ("a log of 4000 pages", [(database_module, "_open", with_pragma("wal_autocheckpoint = 4000"))]),
        ("a log of 250 pages", [(database_module, "_open", with_pragma("wal_autocheckpoint = 250"))]),
        ("synchronous = NORMAL", [(database_module, "_open", with_pragma("synchronous = NORMAL"))]),
    ]
    for words, change in changes:
        before = [(where, name, getattr(where, name)) for where, name, _ in change]
        for where, name, value in change:
            setattr(where, name, value)
        yield words, report(days, 8, folder)
        for where, name, value in before:
            setattr(where, name, value)


def on_the_wire(signals: int, windows: int) -> float:
    """Bytes a window, in one message with so many."""
    chance = random.Random(7)
    bodies = [window(chance, START + number * HOUR, signals).window for number in range(windows)]
    records = tuple(Record(sequence=1_000 + at, body=Window(window=one)) for at, one in enumerate(bodies))
    batch = TelemetryBatch(device="camera-1", epoch="0123456789abcdef", records=records)
    return len(encode_batch(batch)) / windows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of ``docs/telemetry.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--folder", type=Path, help="on the file system to be measured; not in memory")
    parser.add_argument("--compare", action="store_true", help="with one thing otherwise, each")
    parser.add_argument("--wire", action="store_true", help="bytes of windows in a message instead")
    options = parser.parse_args(arguments)
    say = sys.stdout.write
    if options.wire:
        for signals in (8, 64):
            for windows in (1, 24):
                size = on_the_wire(signals, windows)
                say(
                    f"{signals} signals of 20 bins, {windows} windows in a message: {size:.0f} bytes a window\n"
                )
    elif options.compare:
        for words, found in compare(options.days, options.folder):
            say(f"{words}: {found.block_layer / 1e6:.1f} MB a day\n")
    else:
        for signals in (8, 64):
            found = report(options.days, signals, options.folder)
            say(
                f"{signals} signals: {found.block_layer / 1e6:.1f} MB a day to the block device "
                f"({found.write_calls / 1e6:.1f} MB given to write calls), {found.records:.0f} records a day\n"
            )


if __name__ == "__main__":
    main()
