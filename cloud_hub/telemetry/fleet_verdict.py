"""The verdict over a fleet: robust and raw side by side, from each device's counts. Pure."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from msgspec import Struct

from agent.drift.errors import DriftError
from agent.drift.merge import merge_counts
from agent.drift.verdict import check_counts
from agent.protocol.drift import AccuracyEstimate, DriftReference, SignalCounts
from agent.protocol.ids import LARGEST_NUMBER
from agent.protocol.words import one_line
from cloud_hub.telemetry.fleet_estimate import fleet_estimate
from cloud_hub.telemetry.judging import judged
from cloud_hub.telemetry.robust import (
    BREAKDOWN,
    FEWEST_DEVICES,
    Flags,
    Floats,
    Standing,
    cap_rows,
    capped,
    standing,
)
from cloud_hub.telemetry.views import FleetEstimate, FleetVerdict, LeftOut
from cloud_hub.telemetry.withheld import filled

NAMED = 5
"""Devices that a sentence names."""

Counts = dict[str, SignalCounts]


class DeviceCounts(Struct, frozen=True, kw_only=True):
    """What one device brings in: a window, or many of them merged."""

    device: str
    rows: int
    signals: Counts
    estimate: AccuracyEstimate | None = None
    altered: bool = False
    """For privacy; the device has judged them as they were."""


class FleetMerge(Struct, frozen=True, kw_only=True):
    """A fleet merged and judged."""

    verdict: FleetVerdict | None
    """None where no device brought usable counts."""
    robust: Counts
    raw: Counts
    estimate: FleetEstimate | None
    unusable: dict[str, str]
    """Device → why its counts can't be used."""


def merge_fleet(reference: DriftReference, parts: Sequence[DeviceCounts]) -> FleetMerge:
    """Merge devices' counts, raw and robust, and judge both. A device whose counts have not the release's layout is left out."""
    given = {part.device: part.signals for part in parts}
    most = LARGEST_NUMBER // max(len(parts), 1)  # so that the sum of all can be counted
    unusable = {part.device: problem for part in parts if (problem := _problem(reference, part, most))}
    usable = [
        msgspec.structs.replace(part, signals=filled(reference, part.signals))
        for part in parts
        if part.device not in unusable
    ]
    if not usable:
        return FleetMerge(verdict=None, robust={}, raw={}, estimate=None, unusable=unusable)
    names = [signal.name for signal in reference.signals]
    rows = np.array([part.rows for part in usable], dtype=np.float64)
    counts = _array(usable, names)
    stands = standing(counts[:, :, :-1])
    left = [_left_out(part, names, stands, i) for i, part in enumerate(usable) if stands.apart[i]]
    kept = ~stands.apart
    cap = cap_rows(rows[kept])
    sizes = {name: len(usable[0].signals[name].counts) for name in names}
    robust_rows = int(np.minimum(rows[kept], cap).sum())
    robust = _merged(capped(counts[kept], rows[kept], cap), names, sizes, usable, kept, cap)
    raw = {name: merge_counts(part.signals[name] for part in usable) for name in names}
    verdict = _verdict(reference, robust, robust_rows, raw, usable)
    out = [*left, *(_useless(device, why) for device, why in unusable.items())]
    return FleetMerge(
        verdict=_told(
            verdict,
            out,
            cap=cap,
            over=int((rows[kept] > cap).sum()),
            apart=len(left),
            altered=sum(part.altered for part in usable),
        ),
        robust=robust,
        raw=raw,
        estimate=fleet_estimate(
            reference,
            [
                (given[part.device], part.estimate)
                for part, keep in zip(usable, kept, strict=True)
                if keep and part.estimate is not None
            ],
        ),
        unusable=unusable,
    )


def _problem(reference: DriftReference, part: DeviceCounts, most: int) -> str | None:
    if part.rows > most:
        return f"it claims {part.rows} rows, at most {most} of one device can be added up over this fleet"
    return layout_problem(reference, part)


def layout_problem(reference: DriftReference, part: DeviceCounts) -> str | None:
    """Why these counts can't be merged with others of the release."""
    if part.rows < 1:
        return "it has no rows"
    try:
        check_counts(reference, part.signals, part.rows)
    except DriftError as error:
        return str(error)
    stuck = next((name for name, counts in part.signals.items() if counts.repeated > part.rows), None)
    if stuck is not None:
        return f"window: more rows of signal {stuck} repeat the one before than its {part.rows}"
    return None


def _array(parts: Sequence[DeviceCounts], names: Sequence[str]) -> Floats:
    """(devices, signals, slots): counts padded with zeros, then missing, not finite and withheld."""
    width = max(len(counts.counts) for counts in parts[0].signals.values())
    flat = [
        (*found.counts, *(0,) * (width - len(found.counts)), found.missing, found.not_finite, found.withheld)
        for part in parts
        for found in map(part.signals.__getitem__, names)
    ]
    return np.array(flat, dtype=np.float64).reshape(len(parts), len(names), width + 3)


def _merged(
    counts: Floats,
    names: Sequence[str],
    sizes: Mapping[str, int],
    parts: Sequence[DeviceCounts],
    kept: Flags,
    cap: int,
) -> Counts:
    total = counts.sum(axis=0).astype(np.int64)
    stays = [part for part, keep in zip(parts, kept, strict=True) if keep]
    return {
        name: SignalCounts(
            counts=tuple(total[i, : sizes[name]].tolist()),
            missing=int(total[i, -3]),
            not_finite=int(total[i, -2]),
            withheld=int(total[i, -1]),
            repeated=sum(part.signals[name].repeated * min(part.rows, cap) // part.rows for part in stays),
        )
        for i, name in enumerate(names)
    }


def _verdict(
    reference: DriftReference,
    robust: Counts,
    robust_rows: int,
    raw: Counts,
    parts: Sequence[DeviceCounts],
) -> FleetVerdict:
    rows = sum(part.rows for part in parts)
    firm, loose = judged(reference, robust, robust_rows), judged(reference, raw, rows)
    return FleetVerdict(
        level=firm.verdict.level,
        robust=firm.verdict,
        raw=loose.verdict,
        signals=firm.signals,
        devices=len(parts),
        rows=rows,
        cap=0,
        capped=0,
        text="",
    )


def _told(
    verdict: FleetVerdict, out: list[LeftOut], *, cap: int, over: int, apart: int, altered: int
) -> FleetVerdict:
    split = apart > verdict.devices * BREAKDOWN
    kept = verdict.devices - apart
    words = [
        f"{verdict.robust.reason} Over {kept} of {verdict.devices} devices, none with more say than {cap} rows."
    ]
    if verdict.devices < FEWEST_DEVICES:
        words.append(f"Under {FEWEST_DEVICES} devices none can be said to stand apart.")
    if altered:
        words.append(
            f"{altered} of {verdict.devices} send counts that are suppressed or noised for privacy: lay this beside the levels that they found themselves."
        )
    if out:
        named = ", ".join(each.device for each in out[:NAMED])
        more = f" and {len(out) - NAMED} more" if len(out) > NAMED else ""
        words.append(f"Left out: {named}{more}.")
    if split:
        words.append(
            "That is over a third: the fleet is not of one kind, so look at the devices, not at this verdict."
        )
    if verdict.raw.level != verdict.level:
        words.append(f"With everything added up it would be {verdict.raw.level}.")
    return FleetVerdict(
        level=verdict.level,
        robust=verdict.robust,
        raw=verdict.raw,
        signals=verdict.signals,
        devices=verdict.devices,
        rows=verdict.rows,
        cap=cap,
        capped=over,
        left_out=tuple(out),
        split=split,
        text=" ".join(words),
    )


def _left_out(part: DeviceCounts, names: Sequence[str], stands: Standing, i: int) -> LeftOut:
    signal = names[int(stands.signal[i])]
    distance, usual = float(stands.distance[i]), float(stands.usual[i])
    return LeftOut(
        device=part.device,
        signal=signal,
        distance=round(distance, 4),
        usual=round(usual, 4),
        rows=part.rows,
        why=f"its {signal} is {distance:.2f} from the fleet's median distribution, where the median device is {usual:.2f}",
    )


def _useless(device: str, why: str) -> LeftOut:
    return LeftOut(
        device=device,
        signal=None,
        distance=1.0,
        usual=0.0,
        rows=0,
        why=f"its counts can't be used: {one_line(why)}",
    )
