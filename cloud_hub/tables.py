"""Every table of the hub, in one place for migrations."""

from cloud_hub.access import models as access
from cloud_hub.approvals import models as approvals
from cloud_hub.audit import models as audit
from cloud_hub.bundles import models as bundles
from cloud_hub.database import Base
from cloud_hub.devices import models as devices
from cloud_hub.ingest import models as ingest
from cloud_hub.labels import models as labels
from cloud_hub.registry import models as registry
from cloud_hub.retraining import models as retraining
from cloud_hub.rollouts import models as rollouts
from cloud_hub.samples import models as samples
from cloud_hub.telemetry import models as telemetry
from cloud_hub.telemetry import rollup_models as rollups
from cloud_hub.webhooks import models as webhooks

ROOMS = (
    access,
    approvals,
    audit,
    bundles,
    devices,
    ingest,
    labels,
    registry,
    retraining,
    rollouts,
    samples,
    rollups,
    telemetry,
    webhooks,
)
metadata = Base.metadata
