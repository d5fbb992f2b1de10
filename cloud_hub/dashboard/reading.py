"""Read what each page shows, each in one transaction."""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.orm import Session

from agent.protocol.manifest import Manifest
from agent.protocol.telemetry import Health
from cloud_hub.approvals.service import signatures
from cloud_hub.audit.service import newest
from cloud_hub.bundles.receipts import newest as newest_receipts
from cloud_hub.dashboard import (
    device_page,
    devices_page,
    fleet_page,
    notices_page,
    release_page,
    releases_page,
    samples_page,
)
from cloud_hub.dashboard.accuracy import Labelled
from cloud_hub.dashboard.device_page import DeviceFacts
from cloud_hub.dashboard.device_rows import urgency, worst_first
from cloud_hub.dashboard.release_page import Promise
from cloud_hub.dashboard.signals import SignalChart, charts
from cloud_hub.dashboard.told import grouped
from cloud_hub.devices import service as devices
from cloud_hub.devices.service import DeviceView
from cloud_hub.errors import NotFoundError
from cloud_hub.fleet.reading import read_facts
from cloud_hub.fleet.service import Finding, FleetFacts, summarise
from cloud_hub.hub import Hub
from cloud_hub.labels.accuracy import real_accuracy
from cloud_hub.registry.service import get_release, stored_manifest
from cloud_hub.retraining import service as retraining
from cloud_hub.retraining.evidence import Evidence
from cloud_hub.retraining.notices import notices as all_notices
from cloud_hub.retraining.service import RequestView
from cloud_hub.samples.service import all_requests as sample_requests
from cloud_hub.telemetry.drift import DeviceDetail, device_drift, overview_of, release_drift
from cloud_hub.telemetry.history import fleet_days, heat_map, verdict_timeline
from cloud_hub.telemetry.records import events_of, health_of
from cloud_hub.telemetry.service import counts
from cloud_hub.telemetry.views import ReleaseDrift, VerdictTimeline

Details = Mapping[tuple[str, int], DeviceDetail]
"""By model and release."""

DAY = 86_400.0
MAP_DAYS = 30
DEVICE_DAYS = 14
YOUNG_SECONDS = 3_600.0
"""Pictures of a device span at least that."""
"""As long as verdicts are told window by window."""
AUDIT_ENTRIES = 12
EVENTS_SHOWN = 20
REQUESTS_SHOWN, SAMPLES_SHOWN = 50, 50


def fleet(session: Session, hub: Hub) -> fleet_page.FleetPage:
    """What is wrong first, then how the fleet stands."""
    facts = read_facts(session, hub)
    overview = overview_of(facts.drift, now=facts.now, hours=hub.config.telemetry.drift_hours)
    line = fleet_page.needs_a_look(overview)
    map_ = (
        heat_map(
            session,
            line.model,
            line.release,
            facts.now - MAP_DAYS * DAY,
            now=facts.now,
            most=fleet_page.HEAT_SHOWN,
        )
        if line
        else None
    )
    more = notices_page.as_findings(retraining.requests(session, closed=False), all_notices(session))
    days = fleet_days(session, line.model, line.release, facts.now - MAP_DAYS * DAY) if line else ()
    return fleet_page.build(facts, overview, map_, days, newest(session, AUDIT_ENTRIES), more)


def all_devices(session: Session, hub: Hub, *, find: str, page: int) -> devices_page.DevicesPage:
    facts = read_facts(session, hub)
    ordered = worst_first(facts.devices, urgency(summarise(facts).findings))
    return devices_page.build(ordered, facts.counts, find=find, page=page, now=facts.now)


def notices(session: Session, hub: Hub) -> notices_page.NoticesPage:
    """Requests to retrain with their newest evidence, and notices."""
    found = retraining.requests(session, limit=REQUESTS_SHOWN)
    names = [row.id for row in devices.all_devices(session)]
    return notices_page.build(
        [(view, _evidence(session, view)) for view in found],
        all_notices(session, ended=True),
        names,
        hub.now(),
    )


def _evidence(session: Session, view: RequestView) -> Evidence | None:
    if not view.evidence:
        return None
    document = retraining.evidence_of(session, view.id, view.evidence[-1].number)
    return msgspec.json.decode(document, type=Evidence)


def waiting(session: Session) -> int:
    """Requests to retrain that nobody has taken up."""
    return sum(view.state == "open" for view in retraining.requests(session, closed=False))


def samples(session: Session, hub: Hub) -> samples_page.SamplesPage:
    return samples_page.build(sample_requests(session, SAMPLES_SHOWN), hub.now())


def releases(session: Session, hub: Hub) -> releases_page.ReleasesPage:
    facts = read_facts(session, hub)
    keys = [(release.model, release.release) for release in facts.releases]
    manifests = {key: stored_manifest(session, *key, hub.artifacts) for key in keys}
    return releases_page.build(
        facts,
        signatures={key: signatures(session, *key) for key in keys},
        summaries={key: manifest.summary for key, manifest in manifests.items() if manifest},
        audit=newest(session, AUDIT_ENTRIES),
    )


def release(session: Session, hub: Hub, model: str, number: int, slice_: str) -> release_page.ReleasePage:
    """One release over the fleet.

    Raises:
        NotFoundError: there is no such release, or nothing came of this slice.
    """
    now, hours = hub.now(), hub.config.telemetry.drift_hours
    manifest = stored_manifest(session, model, number, hub.artifacts)
    try:
        drift = release_drift(session, hub.artifacts, model, number, now=now, hours=hours, slice=slice_)
    except NotFoundError as error:
        if slice_:
            raise
        get_release(session, model, number)
        drift = _nothing_yet(model, number, str(error))
    since = now - MAP_DAYS * DAY
    return release_page.build(
        drift,
        heat_map(session, model, number, since, now=now, slice=slice_, most=release_page.HEAT_SHOWN),
        fleet_days(session, model, number, since, slice=slice_),
        _labelled(session, model, number, slice_),
        _promise(manifest),
        _in_detail(session, hub, drift),
    )


def _labelled(session: Session, model: str, number: int, slice_: str, device: str | None = None) -> Labelled:
    """Labels of people and of systems; what came from the model itself is no truth."""
    found = [
        each
        for each in real_accuracy(session, model, device=device, daily=False)
        if each.release == number and (each.slice or "") == slice_ and each.origin != "model"
    ]
    return Labelled(rows=sum(each.rows for each in found), correct=sum(each.correct for each in found))


def _nothing_yet(model: str, number: int, problem: str | None) -> ReleaseDrift:
    return ReleaseDrift(
        model=model,
        release=number,
        slice="",
        level="",
        rows=0,
        fleet=None,
        problem=problem,
        devices=(),
        levels={},
        alarms=0,
        signals={},
        raw_signals={},
        estimate=None,
    )


def _promise(manifest: Manifest | None) -> Promise:
    if manifest is None:
        return Promise(summary="", accuracy=None)
    best = max((each.accuracy for each in manifest.variants), default=None)
    return Promise(summary=manifest.summary, accuracy=best)


def _in_detail(session: Session, hub: Hub, drift: ReleaseDrift) -> Mapping[str, DeviceDetail]:
    """The devices to look at first, each by itself."""
    return {
        each.device: device_drift(
            session, hub.artifacts, each.device, drift.model, drift.release, drift.slice
        )
        for each in drift.devices[: release_page.MATRIX_DEVICES]
    }


def device(session: Session, hub: Hub, name: str) -> device_page.DevicePage:
    """One device.

    Raises:
        NotFoundError: nobody enrolled it.
    """
    now = hub.now()
    since = now - DEVICE_DAYS * DAY
    view = devices.view(devices.get_device(session, name))
    serving = {each.model for each in view.reported.serving} if view.reported else set()
    timelines = [verdict_timeline(session, name, model, since, now=now) for model in sorted(serving)]
    health = health_of(session, name, since)
    details = {
        (line.model, release): detail
        for line in timelines
        for release in line.points
        if (detail := _detail(session, hub, name, line.model, release)) is not None
    }
    return device_page.build(
        DeviceFacts(
            now=now,
            since=_begins(timelines, health, since, now),
            view=view,
            told=grouped(_only(session, hub, view, details), {}),
            counts=counts(session, name),
            timelines=timelines,
            drift={key: detail.drift for key, detail in details.items()},
            signals={key: _charts(detail) for key, detail in details.items()},
            labelled={
                (model, number): _labelled(session, model, number, "", name) for model, number in details
            },
            health=health,
            events=events_of(session, name, EVENTS_SHOWN),
        )
    )


def _begins(
    timelines: Sequence[VerdictTimeline], health: Sequence[Health], since: float, now: float
) -> float:
    """Where the pictures of a device begin: a young one has no fortnight to show."""
    known = [points[0].opened for line in timelines for points in line.points.values() if points]
    known += [each.time for each in health[:1]]
    return max(since, min([*known, now - YOUNG_SECONDS]))


def _detail(session: Session, hub: Hub, name: str, model: str, number: int) -> DeviceDetail | None:
    try:
        return device_drift(session, hub.artifacts, name, model, number)
    except NotFoundError:
        return None


def _charts(detail: DeviceDetail) -> tuple[SignalChart, ...]:
    if detail.reference is None or not detail.signals:
        return ()
    return charts(detail.reference, detail.drift.signals, detail.signals)[: device_page.SIGNALS_SHOWN]


def _only(session: Session, hub: Hub, view: DeviceView, details: Details) -> list[Finding]:
    """What there is to say of one device, as if it were the whole fleet."""
    receipts = newest_receipts(session)
    facts = FleetFacts(
        now=hub.now(),
        devices=[view],
        releases=(),
        rollouts=(),
        drift=[_alone(key, detail) for key, detail in details.items()],
        counts={},
        bridge=hub.counters.report(connected=True),
        receipts={view.id: receipts[view.id]} if view.id in receipts else {},
        has_root=True,
    )
    return [finding for finding in summarise(facts).findings if finding.where == view.id]


def _alone(key: tuple[str, int], detail: DeviceDetail) -> ReleaseDrift:
    """A release as if this device were all of the fleet."""
    return msgspec.structs.replace(_nothing_yet(*key, None), devices=(detail.drift,))
