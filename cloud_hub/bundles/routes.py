"""``/v1/bundles``, ``/v1/receipts``."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.params import JSONBody, QueryParameter, RawBody
from litestar.response import Stream

from agent.protocol.ids import DIGEST_PATTERN, is_name
from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.bundles import export, receipts
from cloud_hub.bundles.export import BundleMaker, BundleWish
from cloud_hub.bundles.receipts import ReceiptView
from cloud_hub.errors import InputError
from cloud_hub.hub import Hub

PAGE = 100
"""Each receipt may be long: it is opened, and told with its deployments."""


class BundleController(Controller):
    path = "/v1/bundles"
    tags = ("bundles",)

    @post("/", sync_to_thread=True, media_type="application/octet-stream", status_code=200)
    def make(self, data: JSONBody[BundleWish], hub: HubPart, caller: CallerPart) -> Stream:
        """One signed file with what the devices are asked to run; check it with: edgeward-hub bundle verify FILE."""
        caller.require(Role.OPERATOR)
        hub.root()
        now, maker = hub.now(), _maker(hub)
        bundle = hub.database.write(
            lambda session: export.export(session, data, maker, by=caller.name, now=now)
        )
        hub.publish(tuple(each.device for each in bundle.index.devices))
        headers = {
            "Content-Length": str(bundle.size),
            "Content-Disposition": f'attachment; filename="{bundle.filename}"',
        }
        return Stream(bundle.chunks(), media_type="application/octet-stream", headers=headers)


class ReceiptController(Controller):
    path = "/v1/receipts"
    tags = ("bundles",)

    @post("/", sync_to_thread=True)
    def take(self, body: RawBody, hub: HubPart, caller: CallerPart) -> ReceiptView:
        """Import a device's signed receipt (raw body); importing it again changes nothing."""
        caller.require(Role.OPERATOR)
        now = hub.now()
        view, changed = hub.database.write(
            lambda session: receipts.import_receipt(
                session, body, signing=hub.director_signing, by=caller.name, now=now
            )
        )
        hub.publish(changed)
        return view

    @get("/", sync_to_thread=True)
    def show(
        self,
        hub: HubPart,
        caller: CallerPart,
        device: Annotated[str | None, QueryParameter()] = None,
        after: Annotated[str | None, QueryParameter(pattern=DIGEST_PATTERN)] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=PAGE)] = PAGE,
    ) -> list[ReceiptView]:
        """Receipts, the newest first, of every device or of one; those behind the receipt ``after`` (its SHA-256)."""
        caller.require(Role.VIEWER)
        if device is not None and not is_name(device):
            raise InputError(f"device {device!r}: not a device id")
        return hub.database.read(lambda session: receipts.receipts(session, device, after=after, limit=limit))


def _maker(hub: Hub) -> BundleMaker:
    return BundleMaker(
        name=hub.config.name,
        repository=hub.repository,
        artifacts=hub.artifacts,
        signing=hub.director_signing,
        days=hub.config.trust.bundle_days,
    )
