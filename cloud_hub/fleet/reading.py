"""Read everything that the fleet's summary and the page show, in one transaction."""

from sqlalchemy.orm import Session

from cloud_hub.bundles.receipts import newest
from cloud_hub.devices import service as devices
from cloud_hub.fleet.service import FleetFacts
from cloud_hub.hub import Hub
from cloud_hub.registry import service as registry
from cloud_hub.rollouts.views import all_rollouts
from cloud_hub.telemetry.drift import fleet_drift
from cloud_hub.telemetry.service import counts

SECONDS_AN_HOUR = 3600


def read_facts(session: Session, hub: Hub) -> FleetFacts:
    """One consistent look at the database, with the bridge's counters."""
    now = hub.now()
    publisher = hub.publisher
    return FleetFacts(
        now=now,
        devices=[devices.view(device) for device in devices.all_devices(session)],
        releases=[registry.view(row) for row in registry.all_releases(session)],
        rollouts=all_rollouts(session),
        drift=fleet_drift(session, hub.artifacts, now - hub.config.telemetry.drift_hours * SECONDS_AN_HOUR),
        counts=counts(session),
        bridge=hub.counters.report(connected=publisher is not None and publisher.connected),
        receipts=newest(session),
        has_root=hub.metadata.get("root.json") is not None,
        lives=hub.lives(),
    )
