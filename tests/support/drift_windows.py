"""Windows as devices send them, stored as the hub stores them."""

import msgspec
import numpy as np
from sqlalchemy.orm import Session

from agent.drift.verdict import judge
from agent.protocol.batch_codec import decode_envelope, encode_batch
from agent.protocol.drift import AccuracyEstimate, Alarm, DriftReference, DriftWindow, SignalCounts
from agent.protocol.telemetry import Record, TelemetryBatch, Window
from cloud_hub.ingest.store import store_batches
from tests.support.drift_fleets import honest


def window(
    signed: DriftReference,
    closed: float,
    *,
    rows: int = 500,
    shift: int = 0,
    seed: int = 0,
    model: str = "digits",
    release: int = 1,
    slice_: str | None = None,
    incomplete: bool = False,
    alarm: Alarm | None = None,
    estimate: AccuracyEstimate | None = None,
) -> DriftWindow:
    """Judged by the device's own code; ``shift``: bins by which its world has moved."""
    (part,) = honest(signed, 1, np.random.default_rng(seed), rows=rows, likeness=1e6, shift=shift)
    return DriftWindow(
        model=model,
        release=release,
        deployment="d1",
        artifact="a" * 64,
        opened=closed - 60.0,
        closed=closed,
        rows=rows,
        signals=part.signals,
        verdict=judge(signed, part.signals, rows).verdict,
        slice=slice_,
        incomplete=incomplete,
        alarm=alarm,
        estimate=estimate,
    )


def without_counts(whole: DriftWindow) -> DriftWindow:
    """Of a runner that died: how many rows there were, and nothing else."""
    return msgspec.structs.replace(whole, signals=dict[str, SignalCounts](), incomplete=True)


def store(
    session: Session, device: str, windows: dict[int, DriftWindow], received: float, *, epoch: str = "e1"
) -> None:
    """Store windows by their sequence, through the wire's own codec."""
    records = tuple(Record(sequence=number, body=Window(window=each)) for number, each in windows.items())
    batch = TelemetryBatch(device=device, epoch=epoch, records=records)
    store_batches(session, [decode_envelope(encode_batch(batch))], received)
