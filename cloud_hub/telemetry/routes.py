"""``/v1/telemetry``, ``/v1/drift``."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import FromPath, QueryParameter
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.state import OutboxReport
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.devices.service import all_devices, view
from cloud_hub.ingest.report import IngestView, processes
from cloud_hub.telemetry import drift, history
from cloud_hub.telemetry.adding import DAY
from cloud_hub.telemetry.service import counts
from cloud_hub.telemetry.views import FleetDayView, FleetOverview, HeatMap, ReleaseDrift, VerdictTimeline

DaysBack = Annotated[int, QueryParameter(ge=1, le=3650, description="how many days back")]
SliceName = Annotated[
    str, QueryParameter(name="slice", max_length=200, description="``parameter=value``; empty: the whole")
]


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

    @get("/ingest", sync_to_thread=True)
    def ingest(self, hub: HubPart, caller: CallerPart) -> list[IngestView]:
        """Every process that takes telemetry, and what it took, stored and refused since it started."""
        caller.require(Role.VIEWER)
        return hub.database.read(processes)

    @get("/drift", sync_to_thread=True)
    def overview(self, hub: HubPart, caller: CallerPart) -> FleetOverview:
        """Each release over the fleet, a line each: robust and raw verdict, devices by level, who was left out."""
        caller.require(Role.VIEWER)
        hours = hub.config.telemetry.drift_hours
        return hub.database.read(
            lambda session: drift.fleet_overview(session, hub.artifacts, now=hub.now(), hours=hours)
        )

    @get("/drift/{model:str}/{release:int}", sync_to_thread=True)
    def release(
        self,
        hub: HubPart,
        caller: CallerPart,
        model: FromPath[str],
        release: FromPath[int],
        slice_name: SliceName = "",
    ) -> ReleaseDrift:
        """Drift of one release over the fleet, and of each device by itself, those to look at first."""
        caller.require(Role.VIEWER)
        hours = hub.config.telemetry.drift_hours
        return hub.database.read(
            lambda session: drift.release_drift(
                session, hub.artifacts, model, release, now=hub.now(), hours=hours, slice=slice_name
            )
        )

    @get("/drift/{model:str}/{release:int}/devices/{device:str}", sync_to_thread=True)
    def device(
        self,
        hub: HubPart,
        caller: CallerPart,
        model: FromPath[str],
        release: FromPath[int],
        device: FromPath[str],
        slice_name: SliceName = "",
    ) -> drift.DeviceDetail:
        """One device's newest window: its counts, their statistics, and the reference."""
        caller.require(Role.VIEWER)
        return hub.database.read(
            lambda session: drift.device_drift(session, hub.artifacts, device, model, release, slice_name)
        )

    @get("/drift/{model:str}/{release:int}/days", sync_to_thread=True)
    def days(
        self,
        hub: HubPart,
        caller: CallerPart,
        model: FromPath[str],
        release: FromPath[int],
        slice_name: SliceName = "",
        days: DaysBack = 30,
    ) -> list[FleetDayView]:
        """The release's days over the fleet, oldest first."""
        caller.require(Role.VIEWER)
        since = hub.now() - days * DAY
        return hub.database.read(
            lambda session: list(history.fleet_days(session, model, release, since, slice=slice_name))
        )

    @get("/drift/{model:str}/{release:int}/heat-map", sync_to_thread=True)
    def heat_map(
        self,
        hub: HubPart,
        caller: CallerPart,
        model: FromPath[str],
        release: FromPath[int],
        slice_name: SliceName = "",
        days: DaysBack = 30,
    ) -> HeatMap:
        """Devices by days, the worst first."""
        caller.require(Role.VIEWER)
        now = hub.now()
        return hub.database.read(
            lambda session: history.heat_map(
                session, model, release, now - days * DAY, now=now, slice=slice_name
            )
        )

    @get("/devices/{device:str}/drift/{model:str}", sync_to_thread=True)
    def timeline(
        self,
        hub: HubPart,
        caller: CallerPart,
        device: FromPath[str],
        model: FromPath[str],
        slice_name: SliceName = "",
        days: DaysBack = 7,
    ) -> VerdictTimeline:
        """One device's verdicts of a model, by release: window by window up to two weeks, day by day beyond."""
        caller.require(Role.VIEWER)
        now = hub.now()
        return hub.database.read(
            lambda session: history.verdict_timeline(
                session, device, model, now - days * DAY, now=now, slice=slice_name
            )
        )


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
