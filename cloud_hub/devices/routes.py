"""``/v1/enrolment-tokens``, ``/v1/enrol``, ``/v1/devices``."""

from typing import Annotated

from litestar import Controller, Response, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct
from sqlalchemy.orm import Session

from agent.protocol.enrolment import EnrolmentRequest, EnrolmentResponse
from agent.protocol.telemetry import TelemetryCounts
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.devices import holding, service
from cloud_hub.devices.holding import HoldAnswer, HoldWish
from cloud_hub.devices.service import DeviceView, IssuedToken, TokenWish
from cloud_hub.rollouts.models import DesiredAssignment, DesiredDocument
from cloud_hub.telemetry.service import counts

PEM = "application/x-pem-file"


class DesiredView(Struct, frozen=True, kw_only=True):
    """One model of a device's desired state."""

    model: str
    release: int
    deployment: str


class Revocation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/devices/{device}/revoke``."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    """Why, in words; stands in the audit log and on the page."""


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
        answer = hub.database.write(
            lambda session: service.enrol(
                session,
                data,
                hub.enroller,
                root=root,
                minimum_versions=_with_directors(session, data.device, versions),
                now=now,
            )
        )
        hub.write_revocations()
        return answer


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

    @get("/revocations", sync_to_thread=True, media_type=PEM)
    def revocations(self, hub: HubPart, caller: CallerPart) -> Response[bytes]:
        """The signed list of certificates that the broker is to refuse, PEM (``crlfile`` of Mosquitto)."""
        caller.require(Role.VIEWER)
        return Response(hub.enroller.authority.revoked_pem(hub.now()), media_type=PEM)

    @post("/{device:str}/revoke", sync_to_thread=True)
    def revoke(
        self, device: FromPath[str], data: JSONBody[Revocation], hub: HubPart, caller: CallerPart
    ) -> DeviceView:
        """Take a device's identity at once: the hub hears and serves it no more; the broker needs the new list."""
        caller.require(Role.OPERATOR)
        now = hub.now()
        view = hub.database.write(
            lambda session: service.view(
                service.revoke(session, device, reason=data.reason, by=caller.name, now=now)
            )
        )
        hub.write_revocations()
        hub.publish((device,))
        return view

    @post("/{device:str}/hold", sync_to_thread=True)
    def hold(
        self, device: FromPath[str], data: JSONBody[HoldWish], hub: HubPart, caller: CallerPart
    ) -> HoldAnswer:
        """Ask a device to keep what it runs, whatever is assigned to it, until it is resumed."""
        caller.require(Role.OPERATOR)
        signing, now = hub.director_signing, hub.now()
        answer = hub.database.write(
            lambda session: holding.hold(session, device, data, signing=signing, by=caller.name, now=now)
        )
        if answer.changed:
            hub.publish((device,))
        return answer

    @post("/{device:str}/resume", sync_to_thread=True)
    def resume(self, device: FromPath[str], hub: HubPart, caller: CallerPart) -> HoldAnswer:
        """End the hub's hold; a technician's on the device is theirs to end."""
        caller.require(Role.OPERATOR)
        signing, now = hub.director_signing, hub.now()
        answer = hub.database.write(
            lambda session: holding.resume(session, device, signing=signing, by=caller.name, now=now)
        )
        if answer.changed:
            hub.publish((device,))
        return answer

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
