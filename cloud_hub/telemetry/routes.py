"""``/v1/telemetry``, ``/v1/drift``."""

from litestar import Controller, get
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.state import OutboxReport
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.devices.service import all_devices, view
from cloud_hub.telemetry.drift import ReleaseDrift, fleet_drift
from cloud_hub.telemetry.service import counts

SECONDS_AN_HOUR = 3600


class DeviceLedger(Struct, frozen=True, kw_only=True):
    """What the hub holds of a device, and what the device says it recorded."""

    device: str
    held: tuple[TelemetryCounts, ...]
    reported: OutboxReport | None
    """The device's own ledger, of its newest report."""


class TelemetryController(Controller):
    path = "/v1"
    tags = ("telemetry",)

    @get("/telemetry/counts", sync_to_thread=True)
    def telemetry_counts(self, hub: HubPart, caller: CallerPart) -> list[DeviceLedger]:
        """Records held of each device, beside the device's own ledger."""
        caller.require(Role.VIEWER)
        return hub.database.read(ledgers)

    @get("/drift", sync_to_thread=True)
    def drift(self, hub: HubPart, caller: CallerPart) -> list[ReleaseDrift]:
        """Drift of each release over the fleet, and of each device by itself."""
        caller.require(Role.VIEWER)
        since = hub.now() - hub.config.telemetry.drift_hours * SECONDS_AN_HOUR
        return hub.database.read(lambda session: list(fleet_drift(session, hub.artifacts, since)))


def ledgers(session: Session) -> list[DeviceLedger]:
    """Every device's ledger."""
    held = counts(session)
    result: list[DeviceLedger] = []
    for device in all_devices(session):
        reported = view(device).reported
        result.append(
            DeviceLedger(
                device=device.id,
                held=held.get(device.id, ()),
                reported=reported.outbox if reported else None,
            )
        )
    return result
