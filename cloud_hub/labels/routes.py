"""``/v1/devices/{device}/labels``, ``/v1/accuracy``."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.labels import service
from cloud_hub.labels.accuracy import RealAccuracy, real_accuracy
from cloud_hub.labels.service import DeliveryView, LabelWish

PAGE = 1_000


class LabelController(Controller):
    path = "/v1"
    tags = ("labels",)

    @post("/devices/{device:str}/labels", sync_to_thread=True)
    def send(
        self, device: FromPath[str], data: JSONBody[LabelWish], hub: HubPart, caller: CallerPart
    ) -> DeliveryView:
        """Tell a device what was right; kept and sent again until it has acknowledged that, at most 30 days."""
        caller.require(Role.OPERATOR, Role.AUTHOR)
        now = hub.now()
        answer = hub.database.write(
            lambda session: service.queue(session, device, data, by=caller.name, now=now)
        )
        hub.offer_labels((device,))
        return answer

    @get("/devices/{device:str}/labels", sync_to_thread=True)
    def list_deliveries(
        self,
        device: FromPath[str],
        hub: HubPart,
        caller: CallerPart,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE)] = 100,
    ) -> list[DeliveryView]:
        """What was sent to a device, the newest first, and what came of it."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: service.deliveries(session, device, limit))

    @get("/accuracy/{model:str}", sync_to_thread=True)
    def accuracy(
        self,
        model: FromPath[str],
        hub: HubPart,
        caller: CallerPart,
        device: Annotated[str | None, QueryParameter()] = None,
        days: Annotated[float, QueryParameter(gt=0, le=3_650)] = 90.0,
        daily: Annotated[bool, QueryParameter()] = False,  # noqa: FBT002 - a query parameter
    ) -> list[RealAccuracy]:
        """How often a model was right, by labels: of each release, slice and origin, over all devices or of one.

        Of days of which the hub was told in the last ``days``.
        """
        caller.require(Role.VIEWER)
        since = hub.now() - days * 86_400
        return hub.database.read(
            lambda session: real_accuracy(session, model, since=since, device=device, daily=daily)
        )
