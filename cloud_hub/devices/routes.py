"""``/v1/enrolment-tokens``, ``/v1/enrol``, ``/v1/devices``."""

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Struct
from sqlalchemy.orm import Session

from agent.protocol.enrolment import EnrolmentRequest, EnrolmentResponse
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.devices import service
from cloud_hub.devices.service import DeviceView, IssuedToken, TokenWish
from cloud_hub.rollouts.models import DesiredAssignment, DesiredDocument
from cloud_hub.telemetry.service import counts


class DesiredView(Struct, frozen=True, kw_only=True):
    """One model of a device's desired state."""

    model: str
    release: int
    deployment: str


class DeviceDetail(Struct, frozen=True, kw_only=True):
    device: DeviceView
    desired_version: int | None
    """Version of the director's document; None: none was signed yet."""
    desired: tuple[DesiredView, ...]
    telemetry: tuple[TelemetryCounts, ...]


class EnrolmentController(Controller):
    path = "/v1"
    tags = ("devices",)

    @post("/enrolment-tokens", sync_to_thread=True)
    def create_token(self, data: JSONBody[TokenWish], hub: HubPart, caller: CallerPart) -> IssuedToken:
        """A single-use token for one device; the answer is the only time it is seen."""
        caller.require(Role.OPERATOR)
        root, now = hub.root(), hub.now()
        return hub.database.write(
            lambda session: service.issue_token(session, data, root=root, by=caller.name, now=now)
        )

    @post("/enrol", sync_to_thread=True)
    def enrol(self, data: JSONBody[EnrolmentRequest], hub: HubPart) -> EnrolmentResponse:
        """A device exchanges its token and CSR for its certificate; the token is the authority."""
        root, versions, now = hub.root(), hub.repository.versions(), hub.now()
        return hub.database.write(
            lambda session: service.enrol(
                session,
                data,
                hub.enroller,
                root=root,
                minimum_versions=_with_directors(session, data.device, versions),
                now=now,
            )
        )


class DeviceController(Controller):
    path = "/v1/devices"
    tags = ("devices",)

    @get("/", sync_to_thread=True)
    def list_devices(self, hub: HubPart, caller: CallerPart) -> list[DeviceView]:
        """Every device with its newest report."""
        caller.require(Role.VIEWER)
        return hub.database.read(
            lambda session: [service.view(device) for device in service.all_devices(session)]
        )

    @get("/{device:str}", sync_to_thread=True)
    def show_device(self, device: FromPath[str], hub: HubPart, caller: CallerPart) -> DeviceDetail:
        """One device: reported and desired state, and its telemetry as the hub counts it."""
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: _detail(session, device))


def _with_directors(session: Session, device: str, versions: dict[str, int]) -> dict[str, int]:
    """A device that enrols again has forgotten which documents of its own it saw."""
    document = session.get(DesiredDocument, device)
    return versions if document is None else {**versions, f"director:{device}": document.version}


def _detail(session: Session, name: str) -> DeviceDetail:
    device = service.get_device(session, name)
    document = session.get(DesiredDocument, name)
    rows = session.query(DesiredAssignment).filter_by(device=name).order_by(DesiredAssignment.model)
    return DeviceDetail(
        device=service.view(device),
        desired_version=document.version if document else None,
        desired=tuple(
            DesiredView(model=row.model, release=row.release, deployment=row.deployment) for row in rows
        ),
        telemetry=counts(session, name).get(name, ()),
    )
