"""Labels from the hub: joined one delivery after the other, and acknowledged once that is durable."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Container

from agent.protocol.codec import encode_json
from agent.protocol.labels import LabelDelivery, LabelReceipt
from agent.protocol.topics import Channel
from agent.service.labels import LabelDesk
from agent.service.telemetry_sync import LinkPort
from agent.store.errors import StoreError
from agent.transport.errors import TransportError

log = logging.getLogger(__name__)

MOST_WAITING = 16
"""Deliveries; the hub sends those again that are let go."""


class LabelLine:
    """Between the link and the desk. A delivery that can't be joined now is not acknowledged, so it comes again."""

    def __init__(
        self,
        desk: LabelDesk,
        link: LinkPort,
        *,
        known: Callable[[], Container[str]],
        count: Callable[[str], None],
    ) -> None:
        """``known``: models of this device."""
        self._desk = desk
        self._link = link
        self._known = known
        self._count = count
        self._waiting: asyncio.Queue[LabelDelivery] = asyncio.Queue(MOST_WAITING)

    def take(self, delivery: LabelDelivery) -> None:
        """A delivery has come."""
        try:
            self._waiting.put_nowait(delivery)
        except asyncio.QueueFull:
            self._count("labels-queue-full")

    async def run(self) -> None:
        """Join and acknowledge until cancelled."""
        while True:
            delivery = await self._waiting.get()
            try:
                receipt = await self._receipt(delivery)
                await self._link.publish(Channel.LABELS_ACK, encode_json(receipt))
            except (StoreError, sqlite3.Error, OSError, TransportError) as error:
                self._count("labels-not-joined")
                log.info(
                    "labels wait: the hub sends them again", extra={"id": delivery.id, "why": str(error)}
                )

    async def _receipt(self, delivery: LabelDelivery) -> LabelReceipt:
        if delivery.model not in self._known():
            return LabelReceipt(
                id=delivery.id, outcomes={}, problem=f"this device has no model {delivery.model}"
            )
        return await self._desk.deliver(delivery)
