"""What the page shows, in the page's words; pure over what was read."""

import datetime as dt
from collections.abc import Sequence

from markupsafe import Markup
from msgspec import Struct

from agent.protocol.drift import DriftReference, SignalCounts, VerdictLevel
from agent.protocol.progress import fetching, size
from agent.protocol.state import (
    DeploymentReport,
    Measurement,
    ReportedState,
    ServingReport,
    TransferProgress,
)
from cloud_hub.approvals.service import SignatureView
from cloud_hub.audit.chain import AuditEntry
from cloud_hub.dashboard.charts import comparison
from cloud_hub.devices.service import DeviceView
from cloud_hub.fleet.expiry import left
from cloud_hub.fleet.service import FleetFacts, FleetSummary, summarise
from cloud_hub.rollouts.machine import DeviceState, RolloutState, Status
from cloud_hub.rollouts.views import RolloutView
from cloud_hub.signing.expiry import Life
from cloud_hub.telemetry.drift import ReleaseDrift

MINUTE, HOUR, DAY = 60, 3600, 86_400
SIGNALS_SHOWN = 6
DEVICES_SHOWN = 4
ROLLOUTS_SHOWN = 8


class RolloutCard(Struct, frozen=True, kw_only=True):
    view: RolloutView
    tone: str
    stages: tuple[tuple[DeviceState, ...], ...]
    done: int
    total: int


class UnderWay(Struct, frozen=True, kw_only=True):
    """An update whose bytes are on their way."""

    name: str
    text: str
    done: int
    total: int


class DeviceRow(Struct, frozen=True, kw_only=True):
    view: DeviceView
    serving: tuple[ServingReport, ...]
    tone: str
    state: str
    last: str
    held_records: int
    drift: str
    drift_tone: str
    waiting: tuple[DeploymentReport, ...]
    """Deployments that could go on but do not, with what they wait for."""
    under_way: tuple[UnderWay, ...]
    data: str
    """This month's bytes, both ways; "" where the device has not told."""
    data_for: str


class VariantRow(Struct, frozen=True, kw_only=True):
    """One variant that a device tried in its newest deployment of a model."""

    device: str
    release: str
    variant: str
    measurement: Measurement | None
    chosen: bool
    why: str


class ReleaseRow(Struct, frozen=True, kw_only=True):
    model: str
    release: int
    state: str
    tone: str
    author: str
    signatures: tuple[SignatureView, ...]
    summary: str
    when: str
    devices: int


class SignalChart(Struct, frozen=True, kw_only=True):
    name: str
    who: str
    """A device, or ``fleet``."""
    level: str
    tone: str
    psi: str
    svg: Markup


class DriftCard(Struct, frozen=True, kw_only=True):
    drift: ReleaseDrift
    level: str
    tone: str
    charts: tuple[SignalChart, ...]


class LifeRow(Struct, frozen=True, kw_only=True):
    life: Life
    tone: str
    left: str
    until: str


class Page(Struct, frozen=True, kw_only=True):
    title: str
    time: str
    summary: FleetSummary
    rollouts: tuple[RolloutCard, ...]
    devices: tuple[DeviceRow, ...]
    variants: tuple[VariantRow, ...]
    releases: tuple[ReleaseRow, ...]
    drift: tuple[DriftCard, ...]
    lives: tuple[LifeRow, ...]
    audit: tuple[tuple[str, AuditEntry], ...]


TONES = {"ok": "good", "warning": "warn", "drift": "bad", "insufficient data": "quiet", "": "quiet"}
STATUS_TONES = {
    Status.RUNNING: "busy",
    Status.PAUSED: "bad",
    Status.COMPLETED: "good",
    Status.ABORTED: "quiet",
    Status.ROLLING_BACK: "warn",
    Status.ROLLED_BACK: "warn",
}
RELEASE_TONES = {"published": "good", "submitted": "busy", "draft": "quiet", "withdrawn": "quiet"}


def build(
    facts: FleetFacts,
    *,
    title: str,
    signatures: dict[tuple[str, int], tuple[SignatureView, ...]],
    summaries: dict[tuple[str, int], str],
    audit: Sequence[AuditEntry],
) -> Page:
    """The whole page."""
    summary = summarise(facts)
    return Page(
        title=title,
        time=dt.datetime.fromtimestamp(facts.now, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        summary=summary,
        rollouts=tuple(_rollout(view) for view in facts.rollouts[:ROLLOUTS_SHOWN]),
        devices=tuple(_device(view, facts) for view in facts.devices),
        variants=tuple(row for view in facts.devices for row in _variants(view)),
        releases=tuple(
            ReleaseRow(
                model=release.model,
                release=release.release,
                state=release.state.value,
                tone=RELEASE_TONES[release.state.value],
                author=release.author,
                signatures=signatures.get((release.model, release.release), ()),
                summary=summaries.get((release.model, release.release), ""),
                when=ago(facts.now - (release.published or release.submitted or release.created)),
                devices=summary.serving.get(release.model, {}).get(str(release.release), 0),
            )
            for release in facts.releases
        ),
        drift=tuple(_drift(drift) for drift in facts.drift),
        lives=tuple(
            LifeRow(
                life=life,
                tone={"error": "bad", "warning": "warn", None: "good"}[life.severity],
                left=left(life, facts.now),
                until=dt.datetime.fromtimestamp(life.expires, dt.UTC).strftime("%Y-%m-%d"),
            )
            for life in facts.lives
        ),
        audit=tuple((ago(facts.now - entry.time), entry) for entry in audit),
    )


def _rollout(view: RolloutView) -> RolloutCard:
    state: RolloutState = view.state
    return RolloutCard(
        view=view,
        tone=STATUS_TONES[state.status],
        stages=tuple(state.in_stage(number) for number in range(state.stages)),
        done=sum(device.outcome == "committed" for device in state.devices),
        total=len(state.devices),
    )


def _device(view: DeviceView, facts: FleetFacts) -> DeviceRow:
    reported = view.reported
    level = _drift_level(reported)
    data, data_for = _spent(reported)
    return DeviceRow(
        view=view,
        serving=reported.serving if reported else (),
        tone="good" if view.online else "warn",
        state="revoked" if view.revoked else _presence(view),
        last=ago(facts.now - view.reported_at) if view.reported_at else "never",
        held_records=sum(epoch.records for epoch in facts.counts.get(view.id, ())),
        drift=level,
        drift_tone=TONES.get(level, "quiet"),
        waiting=tuple(each for each in reported.deployments if each.waiting_for) if reported else (),
        under_way=_under_way(view),
        data=data,
        data_for=data_for,
    )


def _under_way(view: DeviceView) -> tuple[UnderWay, ...]:
    """Updates whose bytes are on their way; how fast, of a device that is there alone."""
    reported = view.reported
    return tuple(
        UnderWay(
            name=f"{each.model} {each.release}",
            text=fetching(each.progress if view.online else _stopped(each.progress)),
            done=each.progress.done_bytes,
            total=max(1, each.progress.total_bytes),
        )
        for each in (reported.deployments if reported else ())
        if each.progress is not None
    )


def _stopped(progress: TransferProgress) -> TransferProgress:
    return TransferProgress(done_bytes=progress.done_bytes, total_bytes=progress.total_bytes)


def _spent(reported: ReportedState | None) -> tuple[str, str]:
    """This month's bytes both ways, and what for; as the device counts them."""
    traffic = reported.traffic if reported else ()
    if not traffic:
        return "", ""
    whole = sum(each.bytes_in + each.bytes_out for each in traffic)
    parts = sorted(traffic, key=lambda each: -(each.bytes_in + each.bytes_out))
    words = ", ".join(
        f"{each.purpose} {size(each.bytes_in)} in, {size(each.bytes_out)} out" for each in parts
    )
    return size(whole), f"{traffic[0].month}: {words}"


def _presence(view: DeviceView) -> str:
    if view.online:
        return "online"
    return "offline" if view.reported else "never seen"


def _variants(view: DeviceView) -> list[VariantRow]:
    """What each of its newest deployments tried, in order, and what came of it."""
    rows = []
    for report in view.reported.deployments if view.reported else ():
        name = f"{report.model} {report.release}"
        rows += [
            VariantRow(
                device=view.id,
                release=name,
                variant=tried.variant,
                measurement=tried.measurement,
                chosen=False,
                why=tried.reason.text,
            )
            for tried in report.tried
        ]
        verdict = report.chosen or report.reason
        if report.measurement is not None:
            rows.append(
                VariantRow(
                    device=view.id,
                    release=name,
                    variant=report.measurement.variant,
                    measurement=report.measurement,
                    chosen=report.chosen is not None,
                    why=verdict.text if verdict else "",
                )
            )
    return rows


def _drift_level(reported: ReportedState | None) -> str:
    levels = [serving.drift for serving in reported.serving if serving.drift] if reported else []
    for level in ("drift", "warning", "ok", "insufficient data"):
        if level in levels:
            return level
    return ""


def _drift(drift: ReleaseDrift) -> DriftCard:
    level = drift.verdict.level if drift.verdict else ""
    return DriftCard(
        drift=drift,
        level=level or "not judged",
        tone=TONES[level],
        charts=_charts(drift),
    )


def _charts(drift: ReleaseDrift) -> tuple[SignalChart, ...]:
    """The fleet's signals, those that moved most first; before them what moved most on each device that drifts."""
    if drift.reference is None or drift.verdict is None:
        return ()
    sick = [device for device in drift.devices if device.level in ("warning", "drift")]
    alone = [
        _chart(drift.reference, moved.signal, moved.level, moved.value, device.signals, device.device)
        for device in sick[:DEVICES_SHOWN]
        for moved in (device.verdict.moved_most[:1] if device.verdict else ())
    ]
    names = sorted(drift.statistics, key=lambda name: drift.statistics[name].psi, reverse=True)
    fleet = [
        _chart(
            drift.reference,
            name,
            drift.statistics[name].level,
            drift.statistics[name].psi,
            drift.signals,
            "fleet",
        )
        for name in names[:SIGNALS_SHOWN]
    ]
    return tuple(chart for chart in (*alone, *fleet) if chart is not None)


def _chart(
    reference: DriftReference,
    name: str,
    level: VerdictLevel,
    psi: float,
    counts: dict[str, SignalCounts],
    who: str,
) -> SignalChart | None:
    """None where a window's bins are not the reference's: a device may send anything."""
    signal = next((signal for signal in reference.signals if signal.name == name), None)
    found = counts.get(name)
    if signal is None or found is None or len(found.counts) != len(signal.counts):
        return None
    label = f"{name}, {who}: share of rows in each bin, when the model was made and now"
    return SignalChart(
        name=name,
        who=who,
        level=level,
        tone=TONES[level],
        psi=f"{psi:.2f}",
        svg=comparison(signal.counts, found.counts, label),
    )


def ago(seconds: float) -> str:
    """A span of time as a person says it."""
    if seconds < MINUTE:
        return "just now" if seconds < 10 else f"{seconds:.0f} s ago"  # noqa: PLR2004 - seconds that nobody counts
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min ago"
    if seconds < 2 * DAY:
        return f"{seconds / HOUR:.0f} h ago"
    return f"{seconds / DAY:.0f} days ago"
