"""Tells the hub how the device is: when something has changed, and every so often."""

import asyncio
import contextlib
import logging
from collections import Counter

from agent.protocol.codec import encode_json
from agent.protocol.ledger import Traffic
from agent.protocol.state import ReportedState
from agent.protocol.topics import Channel
from agent.service.desired import DesiredKeeper
from agent.service.hold import Hold
from agent.service.memory import STATE_DAMAGED
from agent.service.models import Models
from agent.service.parts import Parts
from agent.service.reporting import deployment_reports, serving_report
from agent.service.trust_watch import TrustWatch
from agent.service.upkeep import Upkeep
from agent.store.ledger import FLUSH_SECONDS
from agent.transport.errors import TransportError

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.2
"""Changes within this time make one report."""
PROGRESS_SECONDS = 2.0
"""Interval of reports while a release is being fetched."""


class Reporter:
    """Makes and publishes one device's reported state.

    Args:
        errors: what went wrong, by kind; reported, and counted up where a report can't be made.
        changed: set by whoever changes what a report says.
    """

    def __init__(
        self,
        parts: Parts,
        models: Models,
        desired: DesiredKeeper,
        hold: Hold,
        trust: TrustWatch,
        upkeep: Upkeep,
        *,
        errors: Counter[str],
        changed: asyncio.Event,
    ) -> None:
        self._parts = parts
        self._models = models
        self._desired = desired
        self._hold = hold
        self._trust = trust
        self._upkeep = upkeep
        self._errors = errors
        self._changed = changed
        self._sequence = 0
        self._traffic: tuple[Traffic, ...] = ()

    async def publish(self) -> None:
        """Raises TransportError where the link is down, or what comes in the way of a report."""
        await self._parts.link.publish(Channel.REPORTED, encode_json(await self.report()))

    async def report(self) -> ReportedState:
        """The device as it is now, under the next sequence number."""
        self._sequence += 1
        config, now = self._parts.config, self._parts.clock()
        views = self._models.views()
        serving = await asyncio.to_thread(lambda: [serving_report(view) for view in views])
        return ReportedState(
            device=config.device.id,
            agent_version=self._parts.version,
            hardware_class=config.device.hardware_class,
            boot=self._parts.boot,
            sequence=self._sequence,
            time=now,
            held=self._hold.reason is not None and self._hold.reason.code != STATE_DAMAGED,
            inference_address=config.serving.address,
            serving=tuple(report for report in serving if report is not None),
            deployments=deployment_reports(views, self._models.plan(), now),
            outbox=await self._upkeep.outbox_report(),
            errors=dict(sorted(self._errors.items())),
            traffic=self._traffic,
            refusal=self._desired.refusal,
            trust=self._trust.report(),
            problems=self._parts.memory.problems(),
        )

    async def run(self) -> None:
        """Publish when something has changed, and at least as often as configured."""
        while True:
            longest = self._parts.config.telemetry.report_seconds
            interval = min(PROGRESS_SECONDS, longest) if self._models.fetching else longest
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(
                    interval
                ):  # not wait_for: before 3.12 it may swallow a cancellation
                    await self._changed.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._changed.clear()
            if self._parts.link.is_connected:
                try:
                    await self.publish()
                except TransportError as error:
                    log.info("report not published", extra={"why": str(error)})
                except (
                    Exception
                ):  # too large, or a store that fails: the next one may be better, and models serve on
                    self._errors["report-failed"] += 1
                    log.exception("report not made")

    async def keep_accounting(self) -> None:
        """Tell the hub what was spent this month; seldom, because asking the ledger writes it to the disk."""
        while True:
            try:
                spent = (await self._parts.ledger.report()).traffic
            except Exception:  # a store that fails is no reason to stop serving
                self._errors["ledger-not-read"] += 1
                log.exception("ledger not read")
            else:
                self._traffic = tuple(each for each in spent if each.month == spent[0].month)
                self._changed.set()
            await asyncio.sleep(FLUSH_SECONDS)
