"""What our own bookkeeping costs, in processor time: a machine that does other things too makes it wait, not work."""

import statistics as medians
import time
from collections.abc import Callable

import numpy as np
from msgspec import Struct

from agent.drift.signals import Extractor, TensorKey
from agent.drift.views import Array, Floats
from agent.protocol.batch_codec import encode_batch
from agent.protocol.codec import encode_msgpack
from agent.protocol.drift import DriftReference, SignalReference, Summary
from agent.protocol.runner import FromRunner, WindowOpen
from agent.protocol.telemetry import Record, TelemetryBatch, Window
from agent.runner.books import message
from agent.runner.drift_log import DriftLog
from agent.runner.request_facts import NO_FACTS
from hw_bench.drift.stream import BATCH, Stream, builder, reference

NOTHING: dict[str, Array] = {}
ROWS_A_SECOND = 1_000.0
"""In simulated time; what is done by the clock costs a row less where more come."""
SELDOM = 100.0
"""… and where fewer do."""


def by_row(signed: DriftReference, rows: Stream, a_second: float = ROWS_A_SECOND) -> float:
    """Microseconds a row that comes alone, as the runner's do, all in.

    Copied, binned, compared with the row before; each full window judged, watched and made a record; and all that a runner's
    own log does: every second, of which each has ``a_second`` rows, it ticks, and tells how far the open window is when it is time for that.
    Both kinds of messages are encoded, as they go to the supervisor.
    """
    feeds = [{"x": rows[place : place + 1]} for place in range(len(rows))]
    return _taken(signed, feeds, len(rows), a_second)


def in_batches(signed: DriftReference, rows: Stream) -> float:
    """Microseconds a row, :data:`BATCH` at a time."""
    feeds = [{"x": rows[place : place + BATCH]} for place in range(0, len(rows), BATCH)]
    return _taken(signed, feeds, len(rows), ROWS_A_SECOND)


def _taken(signed: DriftReference, feeds: list[dict[str, Stream]], rows: int, a_second: float) -> float:
    log = DriftLog(
        builder(signed),
        lambda closed: _send(message(closed, signed.policy.privacy)),
        lambda so_far: _send(WindowOpen(so_far=message(so_far, signed.policy.privacy))),
    )
    log.add(feeds[0], NOTHING, NO_FACTS, 0.0)  # lays out the ring
    log.close(0.0)
    now, step, tick = 1.0, rows / len(feeds) / a_second, 2.0
    before = time.process_time()
    for feed in feeds:
        log.add(feed, NOTHING, NO_FACTS, now)
        now += step
        if now >= tick:
            log.tick(now)
            tick = now + 1.0
    return (time.process_time() - before) / rows * 1e6


def _send(to_supervisor: FromRunner) -> None:
    encode_msgpack(to_supervisor)


def telling_ms(signed: DriftReference, rows: Stream) -> float:
    """Milliseconds of a tick that tells how far an open window is; the median of them."""
    log = DriftLog(
        builder(signed),
        lambda _: None,
        lambda so_far: _send(WindowOpen(so_far=message(so_far, signed.policy.privacy))),
    )
    times = []
    for place in range(0, len(rows), 100):
        now = 1.0 + place
        log.add({"x": rows[place : place + 100]}, NOTHING, NO_FACTS, now)
        before = time.process_time()
        log.tick(now)
        times.append((time.process_time() - before) * 1e3)
    return medians.median(times)


def verdict_ms(signed: DriftReference, rows: Stream) -> float:
    """Milliseconds that a full window takes to become a record, its last rows' binning included; the median of them."""
    window, times = builder(signed), []
    for start in range(0, len(rows) - 500, 500):
        window.add({"x": rows[start : start + 500]}, NOTHING, 1.0)
        before = time.process_time()
        window.close(2.0)
        times.append((time.process_time() - before) * 1e3)
    return medians.median(times)


class Wire(Struct, frozen=True, kw_only=True):
    """One window of all signals in a batch of its own, as it goes to the broker."""

    spacing: str
    rows: int
    bytes: int
    plain_bytes: int
    """Before it was deflated."""
    state_bytes: int
    """Memory of alarm and detectors, which stays on the device."""


def on_the_wire(rows: Stream, spacing: str) -> Wire:
    """A window of these rows; ``spacing``: ``uniform`` or ``quantile``."""
    window = builder(reference("quantile" if spacing == "quantile" else "uniform", len(rows)))
    for place in range(len(rows)):
        window.add({"x": rows[place : place + 1]}, NOTHING, 1_780_000_000.25 + place * 7.2123)
    closed = window.close(1_780_000_000.25 + len(rows) * 7.2123)
    if closed is None:
        raise ValueError("a window without rows has no record")
    batch = TelemetryBatch(
        device="camera-1", epoch="3f2a1b", records=(Record(sequence=1207, body=Window(window=closed.window)),)
    )
    return Wire(
        spacing=spacing,
        rows=len(rows),
        bytes=len(encode_batch(batch)),
        plain_bytes=len(encode_msgpack(batch)),
        state_bytes=len(closed.state),
    )


class Summarised(Struct, frozen=True, kw_only=True):
    """What the summaries of one kind of tensor cost."""

    what: str
    signals: int
    us_a_row: float


def summaries(repetitions: int) -> list[Summarised]:
    """Microseconds for all summaries of one picture, one sound, one row of scores."""
    random = np.random.default_rng(3)
    kinds: list[tuple[str, Array, tuple[Summary, ...]]] = [
        (
            "picture 96 by 96, three channels, uint8",
            random.integers(0, 256, (16, 96, 96, 3), dtype=np.uint8),
            _PICTURE,
        ),
        (
            "picture 224 by 224, three channels, float32",
            random.random((8, 224, 224, 3), dtype=np.float32),
            _PICTURE,
        ),
        ("sound, 16,000 samples, float32", random.normal(0, 0.2, (8, 16_000)).astype(np.float32), _SOUND),
        ("1,000 scores, float32", random.dirichlet(np.ones(1_000), 16).astype(np.float32), _SCORES),
    ]
    return [
        Summarised(what=what, signals=len(names), us_a_row=_summarised(tensor, names, repetitions))
        for what, tensor, names in kinds
    ]


_PICTURE: tuple[Summary, ...] = ("brightness", "contrast", "sharpness", "saturation", "noise")
_SOUND: tuple[Summary, ...] = ("rms", "spectral-centroid", "spectral-flatness", "clipping")
_SCORES: tuple[Summary, ...] = ("confidence", "margin", "entropy", "argmax")


def _summarised(tensor: Array, names: tuple[Summary, ...], repetitions: int) -> float:
    one = Extractor(
        [
            SignalReference(
                name=name,
                source="input",
                tensor="x",
                summary=name,
                layout="HWC" if names is _PICTURE else None,
                full_scale=1.0 if name == "clipping" else None,
                edges=(0.0, 1.0),
                counts=(0, 0, 0),
                missing=0,
            )
            for name in names
        ]
    )
    row: dict[TensorKey, Array] = {("input", "x"): tensor[:1]}
    return _median_us(lambda: one.values(row), repetitions)


def _median_us(work: Callable[[], Floats], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        before = time.process_time()
        work()
        times.append((time.process_time() - before) * 1e6)
    return medians.median(times)
