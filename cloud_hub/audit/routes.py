"""``/v1/audit``."""

from typing import Annotated

from litestar import Controller, Response, get
from litestar.params import QueryParameter

from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.audit import service
from cloud_hub.audit.chain import AuditEntry, export_line

PAGE = 500


class AuditController(Controller):
    path = "/v1/audit"
    tags = ("audit",)

    @get("/", sync_to_thread=True)
    def list_entries(
        self,
        hub: HubPart,
        caller: CallerPart,
        after: Annotated[int, QueryParameter(ge=0)] = 0,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE)] = PAGE,
    ) -> list[AuditEntry]:
        """Entries in order, those after sequence ``after``."""
        caller.require(Role.AUDITOR)
        return hub.database.read(lambda session: service.entries(session, after=after, limit=limit))

    @get("/export", sync_to_thread=True, media_type="application/jsonl")
    def export(self, hub: HubPart, caller: CallerPart) -> Response[bytes]:
        """The whole log as JSON lines; verify it anywhere with: edgeward-hub audit verify FILE."""
        caller.require(Role.AUDITOR)
        entries = hub.database.read(service.entries)
        lines = b"".join(export_line(entry) + b"\n" for entry in entries)
        return Response(lines, media_type="application/jsonl")
