"""``/v1/models/{model}/draft``."""

from litestar import Controller, Response, get, post

from cloud_hub.access.service import Caller, Role
from cloud_hub.approvals import service
from cloud_hub.approvals.service import DraftSignature, DraftStatus
from cloud_hub.hub import Hub


class ApprovalController(Controller):
    path = "/v1/models/{model:str}/draft"
    tags = ("approvals",)

    @get("/", sync_to_thread=True, media_type="application/json")
    def show_draft(self, model: str, hub: Hub, caller: Caller) -> Response[bytes]:
        """The model's open draft with the signatures so far, byte for byte."""
        caller.require(Role.VIEWER)
        return Response(hub.drafts.get(model), media_type="application/json")

    @post("/signatures", sync_to_thread=True)
    def sign(self, model: str, data: DraftSignature, hub: Hub, caller: Caller) -> DraftStatus:
        """Add an approver's signature; the one that completes the threshold publishes the release."""
        caller.require(Role.APPROVER)
        now = hub.now()
        return hub.database.write(
            lambda session: service.add_signature(
                session,
                model,
                data,
                repository=hub.repository,
                drafts=hub.drafts,
                caller=caller,
                now=now,
            )
        )
