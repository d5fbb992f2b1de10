"""What a device is made of."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from agent.config import AgentConfig
from agent.protocol.telemetry import Health
from agent.service.desired import TrustPort, Verify
from agent.service.memory import Memory, RescuedState
from agent.service.receipts import ReceiptWriter
from agent.store.artifacts import ArtifactStore
from agent.store.events import EventLog
from agent.store.ledger import Ledger
from agent.store.open_windows import OpenWindowStore
from agent.store.outbox import Outbox
from agent.store.predictions import PredictionStore
from agent.store.sample_ledger import SampleLedger
from agent.store.state import StateStore
from agent.store.windows import WindowLog
from agent.supervisor.cgroup import Cgroup
from agent.transport.mqtt import MqttLink


class Parts(Struct, frozen=True, kw_only=True):
    """Everything a device is made of, open and ready (:mod:`agent.daemon` makes them)."""

    config: AgentConfig
    version: str
    boot: str
    link: MqttLink
    outbox: Outbox
    open_windows: OpenWindowStore
    events: EventLog
    ledger: Ledger
    sample_ledger: SampleLedger
    predictions: PredictionStore
    windows: WindowLog
    memory: Memory
    runtimes: frozenset[str]
    verify: Verify
    receipts: ReceiptWriter
    health: Callable[[], Health]
    cgroup: Cgroup | None = None
    """Where each runner gets a cgroup of its own, if the service manager has handed one over."""
    authority: Path | None = None
    """PEM of the hub's authority, for what is fetched over HTTPS."""
    clock: Callable[[], float]

    @property
    def state(self) -> StateStore | RescuedState:
        return self.memory.state

    @property
    def trust(self) -> TrustPort:
        return self.memory.trust

    @property
    def artifacts(self) -> ArtifactStore:
        return self.memory.artifacts
