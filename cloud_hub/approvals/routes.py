"""``/v1/models/{model}/draft``."""

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody

from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.approvals import service
from cloud_hub.approvals.service import DraftSignature, DraftStatus


class ApprovalController(Controller):
    path = "/v1/models/{model:str}/draft"
    tags = ("approvals",)

    @get("/", sync_to_thread=True, media_type="application/json")
    def show_draft(self, model: FromPath[str], hub: HubPart, caller: CallerPart) -> Response[bytes]:
        """The model's open draft with the signatures so far, byte for byte."""
        caller.require(Role.VIEWER)
        return Response(hub.drafts.get(model), media_type="application/json")

    @post("/signatures", sync_to_thread=True)
    def sign(
        self, model: FromPath[str], data: JSONBody[DraftSignature], hub: HubPart, caller: CallerPart
    ) -> DraftStatus:
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
