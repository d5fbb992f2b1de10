"""``/v1/releases``, ``/v1/metadata``."""

from typing import Annotated

from litestar import Controller, Response, get, post, put
from litestar.params import FromPath, PathParameter, RawBody
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.manifest import Manifest
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.approvals.drafts import DraftKind
from cloud_hub.approvals.service import SignatureView, propose, signatures
from cloud_hub.errors import InputError, NotFoundError
from cloud_hub.hub import Hub
from cloud_hub.registry import service
from cloud_hub.registry.model_signing import MAX_SIGNATURE_BYTES
from cloud_hub.registry.patches import build
from cloud_hub.registry.service import FileView, ReleaseView

ReleaseNumber = Annotated[int, PathParameter(ge=1, le=2**53)]
Filename = Annotated[str, PathParameter(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Bytes = Response[bytes]


class ReleaseDetail(Struct, frozen=True, kw_only=True):
    release: ReleaseView
    files: tuple[FileView, ...]
    signatures: tuple[SignatureView, ...]
    """So far; ``threshold`` are needed."""
    threshold: int | None
    """None while the repository does not know the model."""
    manifest: Manifest | None
    """With the evidence by digest; None until it is uploaded and can be read."""


class ReleaseController(Controller):
    path = "/v1/releases"
    tags = ("releases",)

    @put("/{model:str}/{release:int}/files/{filename:str}", sync_to_thread=True)
    def put_file(
        self,
        model: FromPath[str],
        release: ReleaseNumber,
        filename: Filename,
        body: RawBody,
        hub: HubPart,
        caller: CallerPart,
    ) -> FileView:
        """Upload one file of a draft (raw body). The first one opens the draft; its uploader is the author."""
        caller.require(Role.AUTHOR)
        stored, now = hub.artifacts.put(body), hub.now()
        return hub.database.write(
            lambda session: service.put_file(session, model, release, filename, stored, caller, now)
        )

    @put("/{model:str}/{release:int}/model-signature", sync_to_thread=True)
    def put_model_signature(
        self,
        model: FromPath[str],
        release: ReleaseNumber,
        body: RawBody,
        hub: HubPart,
        caller: CallerPart,
    ) -> None:
        """Upload the OpenSSF model signature of a draft's files (raw body, the bundle as JSON); ``submit`` checks it."""
        caller.require(Role.AUTHOR)
        if len(body) > MAX_SIGNATURE_BYTES:
            raise InputError(f"model signature: {len(body)} bytes, at most {MAX_SIGNATURE_BYTES} are allowed")
        stored = hub.artifacts.put(body)
        hub.database.write(
            lambda session: service.put_model_signature(session, model, release, stored, caller)
        )

    @post("/{model:str}/{release:int}/submit", sync_to_thread=True)
    def submit(
        self, model: FromPath[str], release: ReleaseNumber, hub: HubPart, caller: CallerPart
    ) -> ReleaseView:
        """Check the manifest and the evidence, and open the draft that approvers sign.

        Before that, patches from the newest published releases are made, which may take a minute.
        """
        caller.require(Role.AUTHOR)
        # Not in the write: everything else that writes would wait for it.
        patches = build(hub.database, hub.repository, hub.artifacts, model, release)
        now = hub.now()
        return hub.database.write(
            lambda session: service.submit(
                session,
                model,
                release,
                artifacts=hub.artifacts,
                repository=hub.repository,
                draft_days=hub.config.trust.draft_days,
                model_signing=hub.config.model_signing,
                patches=patches,
                caller=caller,
                now=now,
            )
        )

    @post("/{model:str}/{release:int}/withdraw", sync_to_thread=True)
    def withdraw(
        self, model: FromPath[str], release: ReleaseNumber, hub: HubPart, caller: CallerPart
    ) -> ReleaseView:
        """Take back a release that is not published yet; of a published one, ask the approvers to sign its removal."""
        caller.require(Role.AUTHOR, Role.OPERATOR, Role.APPROVER)
        now = hub.now()

        def work(session: Session) -> ReleaseView:
            row = service.get_release(session, model, release)
            if row.state != service.ReleaseState.PUBLISHED:
                return service.withdraw(session, row, caller, now)
            propose(session, hub.drafting, model, DraftKind.WITHDRAWAL, release, caller, now)
            return service.view(row)

        return hub.database.write(work)

    @get("/", sync_to_thread=True)
    def list_releases(self, hub: HubPart, caller: CallerPart) -> list[ReleaseView]:
        """Every release, by model, newest first."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: [service.view(row) for row in service.all_releases(session)])

    @get("/{model:str}/{release:int}", sync_to_thread=True)
    def show_release(
        self, model: FromPath[str], release: ReleaseNumber, hub: HubPart, caller: CallerPart
    ) -> ReleaseDetail:
        """One release: its files, its manifest, who has signed it."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: _detail(session, model, release, hub))


def _detail(session: Session, model: str, release: int, hub: Hub) -> ReleaseDetail:
    row = service.get_release(session, model, release)
    files = service.release_files(session, model, release)
    known = hub.metadata.get("timestamp.json") is not None and model in hub.repository.models()
    return ReleaseDetail(
        release=service.view(row),
        files=tuple(FileView(filename=file.filename, sha256=file.sha256, size=file.size) for file in files),
        signatures=signatures(session, model, release),
        threshold=hub.repository.threshold(model) if known else None,
        manifest=service.stored_manifest(session, model, release, hub.artifacts),
    )


class ContentController(Controller):
    path = "/v1"
    tags = ("content",)

    @get("/metadata/{name:str}", sync_to_thread=True, media_type="application/json")
    def metadata(self, name: FromPath[str], hub: HubPart, caller: CallerPart) -> Bytes:
        """One published TUF metadata file, byte for byte."""
        caller.require(Role.VIEWER)
        data = hub.metadata.get(name)
        if data is None:
            raise NotFoundError(f"there is no metadata file {name!r}")
        return Response(data, media_type="application/json")
