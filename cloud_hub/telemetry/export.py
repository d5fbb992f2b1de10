"""Windows, or days, as a Parquet file: one row for each signal of each, so that any tool reads it without our code.

It is written a row group at a time, under another name until it is whole.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.protocol.drift import SignalCounts
from agent.protocol.ids import LATEST_TIME
from cloud_hub.errors import InputError
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.bodies import decode_window
from cloud_hub.telemetry.models import DriftWindowRow, TelemetryTally
from cloud_hub.telemetry.rollup_bodies import decode_counts
from cloud_hub.telemetry.rollup_models import DeviceDay

What = Literal["windows", "days"]
ROW_GROUP = 50_000
MICROSECONDS = 1_000_000
FORMAT = "edgeward.telemetry.1"


class Wish(Struct, frozen=True, kw_only=True):
    """What is to be written."""

    what: What
    start: float
    """Unix seconds; windows closed from then on (by the device's clock), or days from this one on."""
    end: float
    """… and before then."""
    model: str | None
    device: str | None


class Exported(Struct, frozen=True, kw_only=True):
    rows: int
    """Of the file: signals of windows or days."""
    records: int
    """Windows or days; one without counts has one row all the same."""


def export(session: Session, wish: Wish, out: Path) -> Exported:
    """Write the file.

    Raises:
        InputError: ``out`` is there already or can't be written, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - only this command needs it
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InputError(
            f"{error.name} is not installed; Parquet needs: pip install 'edgeward[hub,parquet]'"
        ) from error
    if out.exists():
        raise InputError(f"{out}: it is there already")
    schema = _schema(pa, wish.what)
    part = out.with_name(f".{out.name}.part")
    rows = records = 0
    try:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            group: list[dict[str, Any]] = []
            for record in _windows(session, wish) if wish.what == "windows" else _days(session, wish):
                records += 1
                group += record
                if len(group) >= ROW_GROUP:
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
                    rows, group = rows + len(group), []
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            rows += len(group)
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return Exported(rows=rows, records=records)


def _schema(pa: Any, what: What) -> Any:
    """pyarrow's; documented in docs/fleet-drift.md."""
    moment, word = pa.timestamp("us", tz="UTC"), pa.dictionary(pa.int32(), pa.string())
    who = [("device", word), ("model", word), ("release", pa.int64()), ("slice", word)]
    own = {
        "windows": [
            ("epoch", word),
            ("sequence", pa.int64()),
            ("deployment", word),
            ("artifact", word),
            ("opened", moment),
            ("closed", moment),
            ("received", moment),
            ("rows", pa.int64()),
            ("level", word),
            ("alarm", word),
            ("incomplete", pa.bool_()),
            ("merged", pa.int64()),
            ("reason", word),
            ("withheld", word),
        ],
        "days": [
            ("day", pa.date32()),
            ("windows", pa.int64()),
            ("rows", pa.int64()),
            ("level", word),
            ("psi", pa.float64()),
            ("ok", pa.int64()),
            ("warning", pa.int64()),
            ("drift", pa.int64()),
            ("insufficient", pa.int64()),
            ("alarms", pa.int64()),
            ("incomplete_windows", pa.int64()),
            ("incomplete_rows", pa.int64()),
            ("unusable", pa.int64()),
            ("late", pa.int64()),
        ],
    }[what]
    figures = [("accuracy", pa.float64()), ("accuracy_low", pa.float64()), ("accuracy_high", pa.float64())]
    signal = [
        ("signal", word),
        ("counts", pa.list_(pa.int64())),
        ("missing", pa.int64()),
        ("not_finite", pa.int64()),
        ("repeated", pa.int64()),
    ]
    return pa.schema([*who, *own, *figures, *signal], metadata={"format": FORMAT, "content": what})


def _devices(session: Session, wish: Wish) -> list[str]:
    if wish.device is not None:
        return [wish.device]
    return sorted(set(session.scalars(select(TelemetryTally.device).distinct())))


def _windows(session: Session, wish: Wish) -> Iterator[list[dict[str, Any]]]:
    """Device after device, oldest first, by the index that their timelines use."""
    row = DriftWindowRow
    for device in _devices(session, wish):
        query = select(row.epoch, row.sequence, row.received, row.slice, row.window).where(
            row.device == device, row.closed >= wish.start, row.closed < wish.end
        )
        if wish.model is not None:
            query = query.where(row.model == wish.model)
        found = session.execute(query.order_by(row.model, row.closed).execution_options(yield_per=1_000))
        for epoch, sequence, received, slice_, body in found:
            window = decode_window(body)
            estimate = window.estimate
            yield _by_signal(
                window.signals,
                device=device,
                model=window.model,
                release=window.release,
                slice=slice_,
                epoch=epoch,
                sequence=sequence,
                deployment=window.deployment,
                artifact=window.artifact,
                opened=_micro(window.opened),
                closed=_micro(window.closed),
                received=_micro(received),
                rows=window.rows,
                level=window.verdict.level,
                alarm=window.alarm.level if window.alarm else None,
                incomplete=window.incomplete,
                merged=window.merged,
                reason=window.verdict.reason,
                withheld=window.withheld.mechanism if window.withheld else None,
                accuracy=estimate.accuracy if estimate else None,
                accuracy_low=estimate.low if estimate else None,
                accuracy_high=estimate.high if estimate else None,
            )


def _days(session: Session, wish: Wish) -> Iterator[list[dict[str, Any]]]:
    row = DeviceDay
    for device in _devices(session, wish):
        query = select(row).where(
            row.device == device, row.day >= int(wish.start // DAY), row.day < -int(-wish.end // DAY)
        )
        if wish.model is not None:
            query = query.where(row.model == wish.model)
        found = session.scalars(query.order_by(row.model, row.day).execution_options(yield_per=1_000))
        for each in found:
            yield _by_signal(
                decode_counts(each.body).signals,
                device=device,
                model=each.model,
                release=each.release,
                slice=each.slice,
                day=each.day,
                windows=each.windows,
                rows=each.rows,
                level=each.level,
                psi=each.psi,
                ok=each.ok,
                warning=each.warning,
                drift=each.drift,
                insufficient=each.insufficient,
                alarms=each.alarms,
                incomplete_windows=each.incomplete_windows,
                incomplete_rows=each.incomplete_rows,
                unusable=each.unusable,
                late=each.late,
                accuracy=each.accuracy,
                accuracy_low=each.low,
                accuracy_high=each.high,
            )


def _micro(seconds: float) -> int:
    """Within what a timestamp can say, whatever a device's clock said."""
    return round(min(max(seconds, 0.0), LATEST_TIME) * MICROSECONDS)


def _by_signal(signals: dict[str, SignalCounts], **common: object) -> list[dict[str, Any]]:
    return [
        {
            **common,
            "signal": name,
            "counts": counts.counts,
            "missing": counts.missing,
            "not_finite": counts.not_finite,
            "repeated": counts.repeated,
        }
        for name, counts in signals.items()
    ] or [dict(common)]
