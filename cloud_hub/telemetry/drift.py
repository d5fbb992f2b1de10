"""Drift over the fleet: the same counts and the same code as on the device, merged."""

from msgspec import Struct
from sqlalchemy.orm import Session

from agent.drift.errors import DriftError
from agent.drift.merge import merge_windows
from agent.drift.reference import decode_reference
from agent.drift.verdict import judge
from agent.protocol.drift import DriftReference, SignalCounts, SignalVerdict, Verdict
from agent.protocol.errors import ProtocolError
from agent.protocol.ids import UnixTime
from cloud_hub.registry.artifacts import ArtifactStore
from cloud_hub.registry.service import stored_manifest
from cloud_hub.telemetry.bodies import decode_window
from cloud_hub.telemetry.models import DriftWindowRow
from cloud_hub.telemetry.service import newest_windows


class DeviceDrift(Struct, frozen=True, kw_only=True):
    """The newest window of one device; a merge hides a single sick device, so it stands by itself."""

    device: str
    opened: UnixTime
    closed: UnixTime
    rows: int
    verdict: Verdict
    signals: dict[str, SignalCounts]


class ReleaseDrift(Struct, frozen=True, kw_only=True):
    """One release over the fleet."""

    model: str
    release: int
    rows: int
    verdict: Verdict | None
    """None when it cannot be judged; ``problem`` says why."""
    problem: str | None
    devices: tuple[DeviceDrift, ...]
    signals: dict[str, SignalCounts]
    """Merged counts of each signal."""
    statistics: dict[str, SignalVerdict]
    """Of the merged counts; empty when they cannot be judged."""
    reference: DriftReference | None


def fleet_drift(session: Session, artifacts: ArtifactStore, since: float) -> tuple[ReleaseDrift, ...]:
    """Every release that has windows received since ``since``, newest release of each model first."""
    groups: dict[tuple[str, int], list[DriftWindowRow]] = {}
    for row in newest_windows(session, since):
        groups.setdefault((row.model, row.release), []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1]))
    return tuple(
        _release_drift(model, release, rows, _reference(session, model, release, artifacts))
        for (model, release), rows in ordered
    )


def _reference(session: Session, model: str, release: int, artifacts: ArtifactStore) -> DriftReference | str:
    """The release's reference, or why there is none."""
    manifest = stored_manifest(session, model, release, artifacts)
    data = artifacts.read(manifest.drift_reference.sha256) if manifest else None
    if data is None:
        return f"the hub does not hold the drift reference of {model} {release}"
    try:
        return decode_reference(data)
    except (ProtocolError, DriftError) as error:
        return str(error)


def _release_drift(
    model: str, release: int, rows: list[DriftWindowRow], reference: DriftReference | str
) -> ReleaseDrift:
    windows = {row.device: decode_window(row.window) for row in rows}
    verdict: Verdict | None = None
    signals: dict[str, SignalCounts] = {}
    statistics: dict[str, SignalVerdict] = {}
    problem = reference if isinstance(reference, str) else None
    try:
        merged = merge_windows(windows.values())
        signals = merged.signals
        if not isinstance(reference, str):
            judgement = judge(reference, merged.signals, merged.rows)
            verdict, statistics = judgement.verdict, judgement.signals
    except DriftError as error:
        problem = str(error)
    return ReleaseDrift(
        model=model,
        release=release,
        rows=sum(window.rows for window in windows.values()),
        verdict=verdict,
        problem=problem,
        devices=tuple(
            DeviceDrift(
                device=device,
                opened=window.opened,
                closed=window.closed,
                rows=window.rows,
                verdict=window.verdict,
                signals=window.signals,
            )
            for device, window in windows.items()
        ),
        signals=signals,
        statistics=statistics,
        reference=None if isinstance(reference, str) else reference,
    )
