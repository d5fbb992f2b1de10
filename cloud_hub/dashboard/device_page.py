"""One device: what is wrong with it, its verdicts over time, its health, its telemetry, its releases. Pure."""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift_words import percent
from agent.protocol.ledger import BudgetReport, Thinning
from agent.protocol.progress import size
from agent.protocol.state import DeploymentReport, OutboxReport, ServingReport
from agent.protocol.telemetry import Event, Health, TelemetryCounts
from cloud_hub.dashboard import addresses, words
from cloud_hub.dashboard.accuracy import AccuracyCard, Labelled, card
from cloud_hub.dashboard.device_rows import DeviceRow, VariantRow, row, variants
from cloud_hub.dashboard.drawing.interval import Known
from cloud_hub.dashboard.drawing.lines import Point, Span, line
from cloud_hub.dashboard.drawing.strip import Judged, cells, skyline, told
from cloud_hub.dashboard.heat import LEVELS
from cloud_hub.dashboard.signals import SignalChart
from cloud_hub.dashboard.told import Headline, Told, headline
from cloud_hub.devices.service import DeviceView
from cloud_hub.telemetry.views import DeviceDrift, TimelinePoint, VerdictTimeline

SPANS = 56
"""Of a timeline: a fortnight in quarters of a day."""
WINDOWS_SHOWN = 24
SIGNALS_SHOWN = 3
NO_LABELS = Labelled(rows=0, correct=0)


class WindowRow(Struct, frozen=True, kw_only=True):
    """One window in the list of the newest."""

    closed: str
    lasted: str
    rows: int
    level: str
    alarm: str
    notes: tuple[str, ...]
    accuracy: str


class Timeline(Struct, frozen=True, kw_only=True):
    """One release on this device."""

    name: str
    link: str
    svg: Markup
    first: str
    last: str
    level: str
    reason: str
    alarm: str
    windows: tuple[WindowRow, ...]
    left: int
    signals: tuple[SignalChart, ...]
    accuracy: AccuracyCard


class HealthChart(Struct, frozen=True, kw_only=True):
    name: str
    now: str
    range: str
    svg: Markup


class Ledger(Struct, frozen=True, kw_only=True):
    """The device's own count beside the hub's."""

    outbox: OutboxReport
    dropped: str
    merged: str
    held: int
    """That the hub holds, or held, of the device's present database."""
    text: str


class Budget(Struct, frozen=True, kw_only=True):
    """Of telemetry's bytes, this month."""

    used: int
    whole: int
    text: str


class DevicePage(Struct, frozen=True, kw_only=True):
    row: DeviceRow
    headline: Headline
    told: tuple[Told, ...]
    serving: tuple[ServingReport, ...]
    timelines: tuple[Timeline, ...]
    health: tuple[HealthChart, ...]
    health_first: str
    health_last: str
    thermal: str
    ledger: Ledger | None
    budget: Budget | None
    traffic: tuple[tuple[str, str, str], ...]
    """Purpose, in, out; of this month."""
    month: str
    deployments: tuple[tuple[str, DeploymentReport], ...]
    variants: tuple[VariantRow, ...]
    events: tuple[tuple[str, Event], ...]


class DeviceFacts(Struct, frozen=True, kw_only=True):
    """Everything that the page is made from."""

    now: float
    since: float
    """From when on timelines and health are shown."""
    view: DeviceView
    told: tuple[Told, ...]
    counts: Mapping[str, tuple[TelemetryCounts, ...]]
    timelines: Sequence[VerdictTimeline]
    drift: Mapping[tuple[str, int], DeviceDrift]
    """By model and release: the newest window, as the hub judges it."""
    signals: Mapping[tuple[str, int], tuple[SignalChart, ...]]
    labelled: Mapping[tuple[str, int], Labelled]
    """By model and release: its own labels."""
    health: Sequence[Health]
    """Oldest first."""
    events: Sequence[Event]
    """Newest first."""


def build(facts: DeviceFacts) -> DevicePage:
    reported = facts.view.reported
    return DevicePage(
        row=row(facts.view, facts.counts, facts.now),
        headline=headline(facts.told),
        told=facts.told,
        serving=reported.serving if reported else (),
        timelines=tuple(
            _timeline(each, release, points, facts)
            for each in facts.timelines
            for release, points in each.points.items()
        ),
        health=_health(facts),
        health_first=_start(facts),
        health_last=words.minute(facts.now),
        thermal=_thermal(facts.health),
        ledger=_ledger(facts),
        budget=_budget(reported.outbox.budget if reported else None),
        traffic=tuple(
            (each.purpose, size(each.bytes_in), size(each.bytes_out))
            for each in sorted(
                reported.traffic if reported else (), key=lambda each: -(each.bytes_in + each.bytes_out)
            )
        ),
        month=reported.traffic[0].month if reported and reported.traffic else "",
        deployments=tuple(
            (words.ago(facts.now - each.since), each)
            for each in sorted(reported.deployments if reported else (), key=lambda each: -each.since)
        ),
        variants=tuple(variants(facts.view)),
        events=tuple((words.ago(facts.now - each.time), each) for each in facts.events),
    )


def _start(facts: DeviceFacts) -> str:
    """The day, or of a young device the minute, in which its pictures begin."""
    return words.minute(facts.since) if facts.now - facts.since < 2 * words.DAY else words.day(facts.since)


def _timeline(
    timeline: VerdictTimeline, release: int, points: Sequence[TimelinePoint], facts: DeviceFacts
) -> Timeline:
    name = f"{timeline.model} {release}"
    judged = [
        Judged(closed=point.closed, level=LEVELS[point.level], incomplete=point.incomplete)
        for point in points
        if point.level in LEVELS
    ]
    spans = cells(judged, facts.since, facts.now, SPANS)
    drift = facts.drift.get((timeline.model, release))
    span = words.lasting((facts.now - facts.since) / SPANS)
    return Timeline(
        name=name,
        link=addresses.release(timeline.model, release),
        svg=skyline(spans, f"{name} on {timeline.device}: {told(spans, span)}"),
        first=_start(facts),
        last=words.minute(facts.now),
        level=drift.level if drift else points[-1].level if points else "",
        reason=drift.verdict.reason if drift and drift.verdict else "",
        alarm=_alarm(drift, facts.now),
        windows=tuple(_window(point) for point in reversed(points[-WINDOWS_SHOWN:])),
        left=max(0, len(points) - WINDOWS_SHOWN),
        signals=facts.signals.get((timeline.model, release), ()),
        accuracy=_accuracy(drift, facts.labelled.get((timeline.model, release), NO_LABELS)),
    )


def _accuracy(drift: DeviceDrift | None, labelled: Labelled) -> AccuracyCard:
    estimate = drift.estimate if drift else None
    return card(
        None if estimate is None else Known(value=estimate.accuracy, low=estimate.low, high=estimate.high),
        drift.estimate_off if drift else None,
        labelled,
        None,
    )


def _alarm(drift: DeviceDrift | None, now: float) -> str:
    if drift is None or drift.alarm is None or drift.alarm.level not in ("warning", "drift"):
        return ""
    alarm = drift.alarm
    text = f"The alarm stands at {alarm.level} since {words.minute(alarm.since)} ({words.ago(now - alarm.since)})"
    changed = f"; abrupt change in {', '.join(alarm.changed)}" if alarm.changed else ""
    return f"{text}, {words.many(alarm.windows, 'window')}{changed}."


def _window(point: TimelinePoint) -> WindowRow:
    notes = []
    if point.incomplete:
        notes.append("cut off: the runner ended before it could close it")
    if point.late:
        notes.append("came more than a day late")
    if point.windows > 1:
        notes.append(f"{point.windows} windows in one")
    accuracy = "" if point.accuracy is None else percent(point.accuracy)
    if point.low is not None and point.high is not None and accuracy:
        accuracy = f"{accuracy} ({point.low * 100:.0f} to {point.high * 100:.0f})"
    return WindowRow(
        closed=words.minute(point.closed),
        lasted=words.lasting(max(0.0, point.closed - point.opened)),
        rows=point.rows,
        level=point.level,
        alarm=point.alarm,
        notes=tuple(notes),
        accuracy=accuracy,
    )


def _gigabytes(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"  # noqa: PLR2004 - its own unit


_CHARTS: tuple[tuple[str, Callable[[Health], float | None], Callable[[float], str], float | None], ...] = (
    ("Load of each processor", lambda each: each.load, lambda value: f"{value:.2f}", 0.0),
    ("Temperature", lambda each: each.temperature_c, lambda value: f"{value:.0f} °C", None),
    ("Memory available", lambda each: each.memory_available_mib, _gigabytes, 0.0),
    ("Disk free", lambda each: each.disk_free_mib, _gigabytes, 0.0),
)


def _health(facts: DeviceFacts) -> tuple[HealthChart, ...]:
    found = []
    spans = _hot(facts.health)
    for name, take, say, bottom in _CHARTS:
        points = [Point(each.time, value) for each in facts.health if (value := take(each)) is not None]
        if not points:
            continue
        values = [point.value for point in points]
        low, high, now = say(min(values)), say(max(values)), say(values[-1])
        shades = spans if name == "Temperature" else ()
        hot = f"; {_thermal(facts.health)}" if shades else ""
        label = f"{name}: now {now}, between {low} and {high}{hot}"
        svg = line(points, facts.since, facts.now, label, bottom=bottom, spans=shades)
        found.append(HealthChart(name=name, now=now, range=f"{low} to {high}", svg=svg))
    return tuple(found)


def _hot(health: Sequence[Health]) -> tuple[Span, ...]:
    """Stretches in which the device said that it was too hot."""
    found: list[Span] = []
    for each, after in zip(health, [*health[1:], *health[-1:]], strict=True):
        if each.thermal not in ("hot", "critical"):
            continue
        until = after.time
        if found and found[-1].until == each.time and found[-1].kind == each.thermal:
            found[-1] = Span(since=found[-1].since, until=until, kind=each.thermal)
        else:
            found.append(Span(since=each.time, until=until, kind=each.thermal))
    return tuple(found)


def _thermal(health: Sequence[Health]) -> str:
    spans = _hot(health)
    if not spans:
        return ""
    lasted = sum(span.until - span.since for span in spans)
    critical = any(span.kind == "critical" for span in spans)
    return (
        f"too hot {words.many(len(spans), 'time')}, {words.lasting(lasted)} in all"
        f"{', once critically' if critical else ''}"
    )


THINNING: dict[Thinning, str] = {
    "none": "nothing is thinned",
    "quarter-days": "windows are merged over quarters of a day",
    "days": "windows are merged over days",
    "urgent-only": "only warnings, drift and errors are sent",
    "nothing": "nothing is sent, as its owner asks; everything waits",
}
"""What a device does to keep its budget."""


def _budget(report: BudgetReport | None) -> Budget | None:
    if report is None:
        return None
    spent = f"{size(report.used_bytes)} of {size(report.monthly_bytes)} in {report.month}"
    text = f"{spent}; {THINNING[report.thinning]}"
    return Budget(used=report.used_bytes, whole=max(1, report.monthly_bytes), text=text)


def _ledger(facts: DeviceFacts) -> Ledger | None:
    reported = facts.view.reported
    if reported is None:
        return None
    outbox = reported.outbox
    held = sum(epoch.records for epoch in facts.counts.get(facts.view.id, ()) if epoch.epoch == outbox.epoch)
    lost = sum(outbox.dropped.values())
    dropped = ", ".join(f"{count} {kind}" for kind, count in sorted(outbox.dropped.items()) if count)
    text = (
        f"It recorded {words.whole(outbox.recorded)}: {words.whole(outbox.acknowledged)} the hub acknowledged, "
        f"{words.whole(outbox.pending)} wait, {words.whole(lost)} were dropped"
    )
    went = sum(outbox.merged.values())
    if went:
        text += f", {words.whole(went)} were merged into others to save bytes or room"
    merged = ", ".join(f"{count} {kind}" for kind, count in sorted(outbox.merged.items()) if count)
    return Ledger(
        outbox=outbox, dropped=dropped or "nothing", merged=merged or "nothing", held=held, text=f"{text}."
    )
