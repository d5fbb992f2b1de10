"""Telemetry that waits, made smaller without losing what it counts: windows and health records merge. Pure.

Counts merge exactly, by adding. What can't be added is kept so that nothing looks better than it was:

- a verdict: the worst of the merged windows', with its own sample size and reason. It is not judged again here, where no
  reference is at hand; whoever has one (the hub) judges the sum.
- an alarm: the newest; a change that the sequential detector saw in any of them.
- an estimate of accuracy: the mean by rows. So are the ends of its interval, which is then too wide rather than too narrow
  (the deviation of a sum is never more than the sum of deviations).
- health: means of processor and load, and of everything else the worst.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence

from msgspec.structs import replace

from agent.protocol.drift import AccuracyEstimate, Alarm, DriftWindow, SignalCounts, Verdict, VerdictLevel
from agent.protocol.telemetry import Health, Thermal

SEVERITY: dict[VerdictLevel, int] = {"insufficient data": 0, "ok": 1, "warning": 2, "drift": 3}
_THERMAL: dict[Thermal | None, int] = {None: 0, "ok": 1, "hot": 2, "critical": 3}


def window_key(window: DriftWindow) -> Hashable:
    """Windows of equal keys may be merged: the same thing was counted in the same way.

    An incomplete one makes no step of the alarm, so it takes none from those that were closed.
    """
    return (
        *(window.model, window.release, window.deployment, window.artifact, window.slice),
        *(window.withheld, window.incomplete),
        window.estimate is None,
        tuple((name, len(counts.counts)) for name, counts in sorted(window.signals.items())),
    )


def merge_windows(windows: Sequence[DriftWindow]) -> DriftWindow:
    """One window that counts what all of them did; at least one, of one :func:`window_key`, in any order."""
    newest = max(windows, key=lambda window: window.closed)
    merged = sum(window.merged for window in windows)
    return replace(
        newest,
        opened=min(window.opened for window in windows),
        rows=sum(window.rows for window in windows),
        signals={name: merge_counts(window.signals[name] for window in windows) for name in newest.signals},
        verdict=_worst(windows, merged),
        incomplete=any(window.incomplete for window in windows),
        merged=merged,
        alarm=_alarm(newest, windows),
        estimate=_estimate([window.estimate for window in windows if window.estimate is not None]),
    )


def merge_counts(parts: Iterable[SignalCounts]) -> SignalCounts:
    """The sum of one signal's counts, at least one part of equal length."""
    every = list(parts)
    return SignalCounts(
        counts=tuple(map(sum, zip(*(part.counts for part in every), strict=True))),
        missing=sum(part.missing for part in every),
        not_finite=sum(part.not_finite for part in every),
        repeated=sum(part.repeated for part in every),
        withheld=sum(part.withheld for part in every),
    )


def merge_health(samples: Sequence[Health]) -> Health:
    """One record for all of them, at least one: when the newest was taken, and how the device was at its worst."""
    newest = max(samples, key=lambda sample: sample.time)
    temperatures = [sample.temperature_c for sample in samples if sample.temperature_c is not None]
    return Health(
        time=newest.time,
        cpu_percent=_mean(samples, lambda sample: sample.cpu_percent),
        memory_available_mib=min(sample.memory_available_mib for sample in samples),
        disk_free_mib=min(sample.disk_free_mib for sample in samples),
        temperature_c=max(temperatures, default=None),
        thermal=max((sample.thermal for sample in samples), key=_THERMAL.__getitem__),
        load=_mean(samples, lambda sample: sample.load),
        supervisor_pss_mib=max(sample.supervisor_pss_mib for sample in samples),
        merged=sum(sample.merged for sample in samples),
    )


def _mean(samples: Sequence[Health], value: Callable[[Health], float]) -> float:
    """Each record weighs as many samples as it stands for."""
    total = sum(sample.merged for sample in samples)
    return sum(value(sample) * sample.merged for sample in samples) / total


def _worst(windows: Sequence[DriftWindow], merged: int) -> Verdict:
    worst = max(windows, key=lambda window: (SEVERITY[window.verdict.level], window.rows, window.closed))
    said = worst.verdict.reason.removesuffix(_of(worst.merged))
    return replace(worst.verdict, reason=said + _of(merged))


def _of(merged: int) -> str:
    return "" if merged == 1 else f" (The worst of {merged} windows, merged on the device.)"


def _alarm(newest: DriftWindow, windows: Sequence[DriftWindow]) -> Alarm | None:
    if newest.alarm is None:
        return None
    changed = {name for window in windows if window.alarm is not None for name in window.alarm.changed}
    return replace(newest.alarm, changed=tuple(sorted(changed)))


def _estimate(parts: Sequence[AccuracyEstimate]) -> AccuracyEstimate | None:
    rows = sum(part.rows for part in parts)
    if rows == 0:
        return parts[0] if parts else None

    return AccuracyEstimate(
        accuracy=sum(part.accuracy * part.rows for part in parts) / rows,
        low=sum(part.low * part.rows for part in parts) / rows,
        high=sum(part.high * part.rows for part in parts) / rows,
        level=min(part.level for part in parts),
        rows=rows,
    )
