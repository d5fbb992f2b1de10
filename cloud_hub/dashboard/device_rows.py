"""Devices as lists show them; pure over what a device has reported."""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from agent.protocol.progress import fetching, size
from agent.protocol.state import (
    DeploymentReport,
    Measurement,
    ReportedState,
    ServingReport,
    TransferProgress,
)
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.dashboard import addresses, words
from cloud_hub.devices.service import DeviceView
from cloud_hub.fleet.service import Finding

_URGENT = {"error": 0, "warning": 1, "info": 2}


class UnderWay(Struct, frozen=True, kw_only=True):
    """An update whose bytes are on their way."""

    name: str
    text: str
    done: int
    total: int


class DeviceRow(Struct, frozen=True, kw_only=True):
    view: DeviceView
    link: str
    serving: tuple[ServingReport, ...]
    mark: str
    state: str
    last: str
    held_records: int
    drift: str
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


def urgency(findings: Iterable[Finding]) -> dict[str, int]:
    """Device → how urgent the worst thing about it is; 0 is now."""
    found: dict[str, int] = {}
    for each in findings:
        found[each.where] = min(found.get(each.where, len(_URGENT)), _URGENT[each.severity])
    return found


def worst_first(devices: Iterable[DeviceView], urgent: Mapping[str, int]) -> list[DeviceView]:
    """Those that need somebody first; those that were revoked last; then by name."""
    return sorted(
        devices,
        key=lambda view: (
            view.revoked is not None,
            urgent.get(view.id, len(_URGENT)),
            words.worst_first(drift_level(view.reported)),
            view.id,
        ),
    )


def row(view: DeviceView, counts: Mapping[str, tuple[TelemetryCounts, ...]], now: float) -> DeviceRow:
    reported = view.reported
    data, data_for = spent(reported)
    return DeviceRow(
        view=view,
        link=addresses.device(view.id),
        serving=reported.serving if reported else (),
        mark="ok" if view.online else "none" if view.reported is None else "warning",
        state="revoked" if view.revoked else presence(view),
        last=words.ago(now - view.reported_at) if view.reported_at else "never",
        held_records=sum(epoch.records for epoch in counts.get(view.id, ())),
        drift=drift_level(reported),
        waiting=tuple(each for each in reported.deployments if each.waiting_for) if reported else (),
        under_way=under_way(view),
        data=data,
        data_for=data_for,
    )


def under_way(view: DeviceView) -> tuple[UnderWay, ...]:
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


def spent(reported: ReportedState | None) -> tuple[str, str]:
    """This month's bytes both ways, and what for; as the device counts them."""
    traffic = reported.traffic if reported else ()
    if not traffic:
        return "", ""
    whole = sum(each.bytes_in + each.bytes_out for each in traffic)
    parts = sorted(traffic, key=lambda each: -(each.bytes_in + each.bytes_out))
    said = ", ".join(f"{each.purpose} {size(each.bytes_in)} in, {size(each.bytes_out)} out" for each in parts)
    return size(whole), f"{traffic[0].month}: {said}"


def presence(view: DeviceView) -> str:
    if view.online:
        return "online"
    return "offline" if view.reported else "never seen"


def drift_level(reported: ReportedState | None) -> str:
    """The worst of its models' newest verdicts; "" where it has none."""
    levels = [serving.drift for serving in reported.serving if serving.drift] if reported else []
    return min(levels, key=words.worst_first, default="")


def variants(view: DeviceView) -> list[VariantRow]:
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
