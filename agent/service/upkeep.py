"""What a device remembers is kept usable while it runs, and what can't be read now stops nobody."""

import logging
import sqlite3
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from agent.core.model_state import ModelState
from agent.protocol import telemetry
from agent.protocol.drift import DriftWindow
from agent.protocol.errors import ProtocolError
from agent.protocol.state import OutboxReport
from agent.service.drift_memory import State
from agent.service.memory import Memory
from agent.service.ports import Recorder
from agent.service.telemetry_budget import TelemetryBudget
from agent.store.errors import StoreError
from agent.store.ledger import Ledger
from agent.store.outbox import Outbox
from agent.store.windows import WindowLog

log = logging.getLogger(__name__)

UNKNOWN = OutboxReport(epoch="", recorded=0, acknowledged=0, pending=0, dropped={}, quarantined=0)
"""Of a database that could not be read since the start."""


class Upkeep:
    """Looks after one device's memory."""

    def __init__(
        self,
        memory: Memory,
        outbox: Outbox,
        budget: TelemetryBudget,
        windows: WindowLog,
        ledger: Ledger,
        recorder: Recorder,
        *,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._outbox = outbox
        self._budget = budget
        self._windows = windows
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock
        self._changed = changed
        self._newest = UNKNOWN

    async def run(self) -> None:
        """Bring the telemetry database back whenever it is in trouble, until cancelled."""
        await self._memory.keeper.run(self._back)

    def account(self, states: Mapping[str, ModelState]) -> None:
        """A model's state was persisted: what is written to flash from now on is counted for what is under way."""
        for state in states.values():
            deployment = state.deployment
            if deployment is None:
                continue
            if deployment.final:
                self._ledger.ended(deployment.deployment)
            else:
                self._ledger.began(deployment.deployment, deployment.model, deployment.release)

    async def outbox_report(self) -> OutboxReport:
        """The outbox's ledger; where it can't be read, the newest one that could."""
        try:
            self._newest = replace(await self._outbox.report(), budget=await self._budget.look())
        except (StoreError, sqlite3.Error, OSError) as error:
            log.info("outbox not read", extra={"why": str(error)})
        return self._newest

    async def close_left_open(self) -> None:
        """Record as incomplete the windows that were open when the agent was last killed."""
        try:
            left = await self._outbox.close_left_open()
        except (
            StoreError,
            ProtocolError,
            sqlite3.Error,
            OSError,
        ) as error:  # they stay, and are recorded after the next start
            log.warning("open windows not recorded", extra={"why": str(error)})
            return
        if left:
            log.info("windows were left open", extra={"windows": left})

    async def known_windows(self) -> list[DriftWindow]:
        """Newest drift windows from before the start; none where they can't be read."""
        try:
            return await self._windows.latest()
        except (StoreError, sqlite3.Error, OSError) as error:
            log.warning("drift windows not read", extra={"why": str(error)})
            return []

    async def known_drift_states(self) -> list[State]:
        """What alarms and detectors knew before the start; nothing where it can't be read: they begin anew."""
        try:
            return await self._windows.every_drift_state()
        except (StoreError, sqlite3.Error, OSError) as error:
            log.warning("drift states not read", extra={"why": str(error)})
            return []

    async def _back(self, note: str | None) -> None:
        text = "the telemetry database can be used again"
        await self._recorder.record(
            telemetry.Event(
                time=self._clock(),
                severity="warning",
                kind="telemetry-database",
                text=text if note is None else f"{text}; {note}",
            )
        )
        self._changed()
