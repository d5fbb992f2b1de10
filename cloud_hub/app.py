"""The REST API as an ASGI application."""

from litestar import Litestar, Router, get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from msgspec import Struct

from agent.protocol.errors import ProtocolError
from cloud_hub import problems
from cloud_hub.access.guard import HubPart, provide_caller, provide_hub
from cloud_hub.approvals.routes import ApprovalController
from cloud_hub.audit.routes import AuditController
from cloud_hub.bundles.routes import BundleController, ReceiptController
from cloud_hub.dashboard.routes import DashboardController
from cloud_hub.devices.routes import DeviceController, EnrolmentController
from cloud_hub.downloads.routes import SIGNED_ONLY, ArtifactController
from cloud_hub.errors import HubError
from cloud_hub.fleet.routes import FleetController, TrustController
from cloud_hub.hub import Hub
from cloud_hub.labels.routes import LabelController
from cloud_hub.registry.routes import ContentController, ReleaseController
from cloud_hub.retraining.routes import NoticeController, RetrainingController, WebhookController
from cloud_hub.rollouts.routes import RolloutController
from cloud_hub.samples.routes import SampleController
from cloud_hub.signing.errors import SigningError
from cloud_hub.telemetry.routes import TelemetryController

MIB = 1024 * 1024


class HealthReport(Struct, frozen=True, kw_only=True):
    broker_connected: bool
    uptime_seconds: float


@get("/health", sync_to_thread=True, tags=["fleet"])
def health(hub: HubPart) -> HealthReport:
    """Whether the hub runs; needs no token and says nothing about the fleet."""
    publisher = hub.publisher
    return HealthReport(
        broker_connected=publisher is not None and publisher.connected, uptime_seconds=hub.now() - hub.started
    )


def create_device_app(hub: Hub) -> Litestar:
    """What the listener for devices serves: signed artifacts, and nothing else."""
    return Litestar(
        route_handlers=[ArtifactController],
        state=State({"hub": hub, SIGNED_ONLY: True}, deep_copy=False),
        dependencies={"hub": Provide(provide_hub, sync_to_thread=False)},
        exception_handlers={
            HubError: problems.from_hub_error,
            HTTPException: problems.from_http_exception,
            Exception: problems.from_defect,
        },
        openapi_config=None,
        request_max_body_size=0,
        logging_config=None,
    )


def create_app(hub: Hub) -> Litestar:
    """The application over a wired hub."""
    return Litestar(
        route_handlers=[
            health,
            FleetController,
            TrustController,
            EnrolmentController,
            DeviceController,
            Router(
                path="/",
                route_handlers=[ReleaseController],
                request_max_body_size=hub.config.limits.artifact_mib * MIB,  # the others take JSON alone
            ),
            ContentController,
            ArtifactController,
            ApprovalController,
            RolloutController,
            BundleController,
            ReceiptController,
            SampleController,
            TelemetryController,
            RetrainingController,
            NoticeController,
            WebhookController,
            LabelController,
            AuditController,
            DashboardController,
        ],
        state=State({"hub": hub}, deep_copy=False),
        dependencies={
            "hub": Provide(provide_hub, sync_to_thread=False),
            "caller": Provide(provide_caller, sync_to_thread=True),
        },
        exception_handlers={
            HubError: problems.from_hub_error,
            SigningError: problems.from_signing_error,
            ProtocolError: problems.from_protocol_error,
            HTTPException: problems.from_http_exception,
            Exception: problems.from_defect,
        },
        openapi_config=OpenAPIConfig(
            title="Edgeward hub",
            version="1",
            description="Govern what models devices run. Errors are RFC 9457 problem reports.",
            path="/schema",
            render_plugins=[JsonRenderPlugin(), YamlRenderPlugin()],
            components=Components(security_schemes={"bearer": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"bearer": []}],
        ),
        request_max_body_size=MIB,
        logging_config=None,
    )
