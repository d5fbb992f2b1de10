"""``/v1/samples``."""

from typing import Annotated

import msgspec
from litestar import Controller, Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.ids import Count
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.samples import keeping, service
from cloud_hub.samples.keeping import SampleInfo
from cloud_hub.samples.service import OfferedRequest, RequestView

PAGE = 100


class Deleted(Struct, frozen=True, kw_only=True):
    """What ``DELETE`` did."""

    samples: Count


class SampleController(Controller):
    path = "/v1/samples/requests"
    tags = ("samples",)

    @post("/", sync_to_thread=True)
    def ask(self, data: JSONBody[OfferedRequest], hub: HubPart, caller: CallerPart) -> RequestView:
        """Pass a request on that an approver of the model has signed; the device's own settings have the last word."""
        caller.require(Role.APPROVER)
        hub.root()
        now, director = hub.now(), hub.director_signing.director

        def take(session: Session) -> RequestView:
            row = service.take_request(
                session, data, repository=hub.repository, director=director, caller=caller, now=now
            )
            return service.view(session, row)

        view = hub.database.write(take)
        hub.offer_samples(tuple(offer.device for offer in view.devices))
        return view

    @get("/", sync_to_thread=True)
    def requests(
        self,
        hub: HubPart,
        caller: CallerPart,
        limit: Annotated[int, QueryParameter(ge=1, le=1000)] = PAGE,
    ) -> list[RequestView]:
        """The newest requests, what each device answered, and how many samples are here."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: service.all_requests(session, limit))

    @get("/{request_id:str}", sync_to_thread=True)
    def show(self, request_id: FromPath[str], hub: HubPart, caller: CallerPart) -> RequestView:
        """One request."""
        caller.require(Role.VIEWER)
        return hub.database.read(
            lambda session: service.view(session, service.get_request(session, request_id))
        )

    @post("/{request_id:str}/close", sync_to_thread=True)
    def close(self, request_id: FromPath[str], hub: HubPart, caller: CallerPart) -> RequestView:
        """Offer it to no device any more, and take nothing more for it."""
        caller.require(Role.APPROVER, Role.OPERATOR)
        now = hub.now()
        return hub.database.write(lambda session: service.close(session, request_id, by=caller.name, now=now))

    @get("/{request_id:str}/samples", sync_to_thread=True)
    def samples(self, request_id: FromPath[str], hub: HubPart, caller: CallerPart) -> list[SampleInfo]:
        """What has arrived, without what the samples show."""
        caller.require(Role.APPROVER, Role.AUTHOR)
        return hub.database.read(lambda session: keeping.listed(session, request_id))

    @get("/{request_id:str}/samples/{device:str}/{sample:str}", sync_to_thread=True)
    def download(
        self,
        request_id: FromPath[str],
        device: FromPath[str],
        sample: FromPath[str],
        hub: HubPart,
        caller: CallerPart,
    ) -> Response[bytes]:
        """One sample whole: ``agent.protocol.telemetry.Sample`` as JSON. Each download stands in the audit log."""
        caller.require(Role.APPROVER, Role.AUTHOR)
        now = hub.now()
        body = hub.database.write(
            lambda session: keeping.hand_out(session, request_id, device, sample, caller=caller, now=now)
        )
        return Response(
            msgspec.json.encode(body),
            media_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    @delete("/{request_id:str}/samples", sync_to_thread=True, status_code=200)
    def delete(self, request_id: FromPath[str], hub: HubPart, caller: CallerPart) -> Deleted:
        """Delete every sample of a request, and close it."""
        caller.require(Role.APPROVER, Role.AUTHOR)
        now = hub.now()
        count = hub.database.write(
            lambda session: keeping.delete_all(session, request_id, by=caller.name, now=now)
        )
        return Deleted(samples=count)
