"""``/v1/models/{model}/draft``."""

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.ids import Version
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.approvals import service
from cloud_hub.approvals.drafts import DraftKind, get_draft
from cloud_hub.approvals.service import DraftSignature, DraftStatus


class Proposal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/models/{model}/draft``."""

    withdraw: Version | None = None
    """The release to be withdrawn; None: nothing but a longer life of what is approved."""


class ProposedDraft(Struct, frozen=True, kw_only=True):
    model: str
    kind: DraftKind
    release: Version | None
    version: Version


class ApprovalController(Controller):
    path = "/v1/models/{model:str}/draft"
    tags = ("approvals",)

    @get("/", sync_to_thread=True, media_type="application/json")
    def show_draft(self, model: FromPath[str], hub: HubPart, caller: CallerPart) -> Response[bytes]:
        """The model's open draft with the signatures so far, byte for byte."""
        caller.require(Role.VIEWER)
        now = hub.now()

        def work(session: Session) -> bytes:
            service.settle(session, hub.drafting, now)
            return get_draft(session, model).document

        return Response(hub.database.write(work), media_type="application/json")

    @post("/", sync_to_thread=True)
    def propose(
        self, model: FromPath[str], data: JSONBody[Proposal], hub: HubPart, caller: CallerPart
    ) -> ProposedDraft:
        """Ask the approvers to withdraw a published release, or to renew the model's role before it expires."""
        caller.require(Role.APPROVER, Role.AUTHOR, Role.OPERATOR)
        kind, now = (DraftKind.RENEWAL if data.withdraw is None else DraftKind.WITHDRAWAL), hub.now()
        row = hub.database.write(
            lambda session: service.propose(session, hub.drafting, model, kind, data.withdraw, caller, now)
        )
        return ProposedDraft(model=row.model, kind=kind, release=row.release, version=row.role_version)

    @post("/signatures", sync_to_thread=True)
    def sign(
        self, model: FromPath[str], data: JSONBody[DraftSignature], hub: HubPart, caller: CallerPart
    ) -> DraftStatus:
        """Add an approver's signature; the one that completes the threshold publishes the draft."""
        caller.require(Role.APPROVER)
        now = hub.now()
        return hub.database.write(
            lambda session: service.add_signature(
                session, model, data, drafting=hub.drafting, caller=caller, now=now
            )
        )
