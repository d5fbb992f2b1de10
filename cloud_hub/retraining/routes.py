"""``/v1/retraining``, ``/v1/notices``, ``/v1/webhooks``."""

from typing import Annotated

from litestar import Controller, MediaType, Response, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta, Struct
from sqlalchemy.orm import Session

from agent.protocol.ids import is_name
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.errors import InputError
from cloud_hub.hub import Hub
from cloud_hub.retraining import notices, service
from cloud_hub.retraining.notices import NoticeView
from cloud_hub.retraining.policy import RetrainingPolicy
from cloud_hub.retraining.service import PolicyView, RequestView
from cloud_hub.webhooks.service import DeliveryView, deliveries

Words = Annotated[str, Meta(min_length=1, max_length=500)]
Number = Annotated[int, QueryParameter(ge=1, le=1000)]


class Acknowledgement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    note: Annotated[str, Meta(max_length=500)] | None = None
    """What is being done: a ticket, a name."""


class Closing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    reason: Words


class RetrainingController(Controller):
    path = "/v1/retraining"
    tags = ("retraining",)

    @get("/", sync_to_thread=True)
    def index(self, hub: HubPart, caller: CallerPart, limit: Number = 200) -> list[RequestView]:
        """Requests to retrain a model: those that are not closed first."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: service.requests(session, limit=limit))

    @get("/{request_id:int}", sync_to_thread=True)
    def show(self, request_id: FromPath[int], hub: HubPart, caller: CallerPart) -> RequestView:
        """One request."""
        caller.require(Role.VIEWER)
        return hub.database.read(
            lambda session: service.view(session, service.get_request(session, request_id))
        )

    @get("/{request_id:int}/evidence/{number:int}", sync_to_thread=True)
    def evidence(
        self, request_id: FromPath[int], number: FromPath[int], hub: HubPart, caller: CallerPart
    ) -> Response[bytes]:
        """A frozen document: what the request rests on. Its SHA-256 stands in the audit log."""
        caller.require(Role.VIEWER)
        document = hub.database.read(lambda session: service.evidence_of(session, request_id, number))
        return Response(document, media_type=MediaType.JSON)

    @post("/{request_id:int}/acknowledge", sync_to_thread=True, status_code=200)
    def acknowledge(
        self, request_id: FromPath[int], data: JSONBody[Acknowledgement], hub: HubPart, caller: CallerPart
    ) -> RequestView:
        """Say that somebody has taken it up."""
        caller.require(Role.OPERATOR, Role.AUTHOR)
        return hub.database.write(
            lambda session: service.acknowledge(
                session, request_id, by=caller.name, note=data.note, now=hub.now()
            )
        )

    @post("/{request_id:int}/close", sync_to_thread=True, status_code=200)
    def close(
        self, request_id: FromPath[int], data: JSONBody[Closing], hub: HubPart, caller: CallerPart
    ) -> RequestView:
        """End it by hand; it opens again where its cause lasts as long as the policy says."""
        caller.require(Role.OPERATOR, Role.AUTHOR)
        now = hub.now()

        def work(session: Session) -> RequestView:
            tell = hub.retraining.teller(session, now)
            return service.close(session, request_id, by=caller.name, reason=data.reason, now=now, tell=tell)

        return hub.database.write(work)

    @get("/policies/{model:str}", sync_to_thread=True)
    def policy(self, model: FromPath[str], hub: HubPart, caller: CallerPart) -> PolicyView:
        """The policy that a model has: its own, or that of hub.toml."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: service.policy_of(session, model, hub.config.retraining))

    @put("/policies/{model:str}", sync_to_thread=True)
    def set_policy(
        self, model: FromPath[str], data: JSONBody[RetrainingPolicy], hub: HubPart, caller: CallerPart
    ) -> PolicyView:
        """Give a model a policy of its own."""
        caller.require(Role.OPERATOR, Role.AUTHOR)
        return _set(hub, caller.name, model, data)

    @delete("/policies/{model:str}", sync_to_thread=True, status_code=200)
    def unset_policy(self, model: FromPath[str], hub: HubPart, caller: CallerPart) -> PolicyView:
        """Let the policy of hub.toml hold again."""
        caller.require(Role.OPERATOR, Role.AUTHOR)
        return _set(hub, caller.name, model, None)


def _set(hub: Hub, by: str, model: str, policy: RetrainingPolicy | None) -> PolicyView:
    if not is_name(model):
        raise InputError(f"model {model!r}: not a name")

    def work(session: Session) -> PolicyView:
        service.set_policy(session, model, policy, by=by, now=hub.now())
        session.flush()
        return service.policy_of(session, model, hub.config.retraining)

    return hub.database.write(work)


class NoticeController(Controller):
    path = "/v1/notices"
    tags = ("retraining",)

    @get("/", sync_to_thread=True)
    def index(
        self, hub: HubPart, caller: CallerPart, *, ended: Annotated[bool, QueryParameter()] = False
    ) -> list[NoticeView]:
        """What should be looked at: silent devices, devices without a verdict, lost telemetry."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: notices.notices(session, ended=ended))


class WebhookController(Controller):
    path = "/v1/webhooks"
    tags = ("retraining",)

    @get("/", sync_to_thread=True)
    def index(self, hub: HubPart, caller: CallerPart) -> list[DeliveryView]:
        """What was told to other systems, or waits to be: the newest first."""
        caller.require(Role.OPERATOR, Role.AUDITOR)
        return hub.database.read(deliveries)
