"""``/v1/fleet``."""

from litestar import Controller, get

from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.fleet.reading import read_facts
from cloud_hub.fleet.service import FleetSummary, summarise
from cloud_hub.signing.expiry import Life


class TrustController(Controller):
    path = "/v1/trust"
    tags = ("trust",)

    @get("/", sync_to_thread=True)
    def show(self, hub: HubPart, caller: CallerPart) -> list[Life]:
        """Until when each role and certificate holds, who renews it, and with which command."""
        caller.require(Role.VIEWER)
        return list(hub.lives())


class FleetController(Controller):
    path = "/v1/fleet"
    tags = ("fleet",)

    @get("/", sync_to_thread=True)
    def show(self, hub: HubPart, caller: CallerPart) -> FleetSummary:
        """What is wrong, the worst first, in plain words; and how the fleet stands."""
        caller.require(Role.VIEWER)
        return summarise(hub.database.read(lambda session: read_facts(session, hub)))
