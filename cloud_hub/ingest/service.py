"""Take telemetry from an inbox: many batches a transaction, acknowledged by whoever has committed them.

A batch that can't be read, or that the database will not have, stops no other one. While the database is away nothing is
acknowledged: the inbox fills, what overflows is counted, and the devices send again.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session

from agent.protocol.batch_codec import ReceivedBatch, decode_envelope
from agent.protocol.codec import encode_json
from agent.protocol.errors import MessageTooLargeError, ProtocolError, UnknownTopicError
from agent.protocol.topics import Channel, parse_topic, topic
from cloud_hub.bridge.counters import BridgeCounters
from cloud_hub.database import Database
from cloud_hub.ingest.conflicts import note_conflicts
from cloud_hub.ingest.report import IngestReport, write_report
from cloud_hub.ingest.store import Stored, store_batches, strangers
from cloud_hub.mqtt import Message

log = logging.getLogger(__name__)

GROUP_MESSAGES = 1024
"""At most this many share one transaction."""
REPORT_SECONDS = 5.0
AWAY_SECONDS = 1.0
"""Between two attempts at a database that does not answer."""


class TelemetryLink(Protocol):
    """Where telemetry comes from; only the ingest's own thread receives and acknowledges."""

    @property
    def connected(self) -> bool: ...
    def receive(self, most: int, timeout: float) -> list[Message]:
        """What has come, the oldest first; that of the call before is settled now."""
        ...

    def acknowledge(self, to: str, payload: bytes) -> None:
        """Send to a device, once."""
        ...


class Ingest:
    """One thread between a link's telemetry and the database."""

    def __init__(
        self,
        name: str,
        database: Database,
        link: TelemetryLink,
        counters: BridgeCounters,
        now: Callable[[], float],
    ) -> None:
        self._name, self._database, self._link, self._counters, self._now = (
            name,
            database,
            link,
            counters,
            now,
        )
        self._started = now()
        self._reported, self._reported_connected = 0.0, False
        self._batches = self._commits = 0
        self._records: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-ingest", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Finish the transaction that is under way; the rest is sent again by the devices."""
        self._stop.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stop.is_set():
            messages = self._link.receive(GROUP_MESSAGES, 0.25)
            try:
                if messages:
                    self.take(messages)
                self._report()
            except (
                Exception
            ):  # ingest outlives any defect; it is logged, and nothing of the group was acknowledged
                log.exception("telemetry was not taken")
                self._counters.count("failed")

    def take(self, messages: Sequence[Message]) -> None:
        """Store messages in their order and acknowledge what is committed."""
        batches = [batch for message in messages if (batch := self._read(message)) is not None]
        if batches:
            self._store(batches)

    def _read(self, message: Message) -> ReceivedBatch | None:
        try:
            batch = decode_envelope(message.payload)
            device = _device(message.topic)
        except MessageTooLargeError as error:
            self._refuse("oversized", message.topic, str(error))
        except UnknownTopicError as error:
            self._refuse("unknown-topic", message.topic, str(error))
        except ProtocolError as error:
            self._refuse("malformed", message.topic, str(error))
        else:
            if device == batch.device:
                return batch
            self._refuse(
                "wrong-device",
                message.topic,
                f"the topic is {device}'s, the message says it is {batch.device}'s",
            )
        return None

    def _store(self, batches: Sequence[ReceivedBatch]) -> None:
        """All in one transaction; where that fails, twice (another process was in the way), each by itself."""
        for last in (False, True):
            try:
                unwanted, stored = self._commit(batches)
            except (OperationalError, InterfaceError) as error:
                if last:
                    log.warning("the database does not answer", extra={"reason": str(error.orig)})
                    self._counters.count("not-stored", len(batches))
                    self._stop.wait(AWAY_SECONDS)
            except Exception as error:  # whatever one batch does, the others are stored
                if len(batches) == 1:
                    log.exception("a batch can't be stored", extra={"device": batches[0].device})
                    self._refuse("failed", topic(batches[0].device, Channel.TELEMETRY), repr(error))
                    return
                for batch in batches:
                    self._store([batch])
                return
            else:
                self._settle(batches, unwanted, stored)
                return

    def _commit(self, batches: Sequence[ReceivedBatch]) -> tuple[dict[str, str], Stored]:
        """Devices that nothing is taken from, and what became of the others' records."""
        now = self._now()

        def work(session: Session) -> tuple[dict[str, str], Stored]:
            unwanted = strangers(session, (batch.device for batch in batches))
            wanted = [batch for batch in batches if batch.device not in unwanted] if unwanted else batches
            return unwanted, store_batches(session, wanted, now)

        unwanted, stored = self._database.append(work)
        self._commits += 1
        if stored.conflicts:
            self._database.write(lambda session: note_conflicts(session, stored.conflicts, now))
        return unwanted, stored

    def _settle(self, batches: Sequence[ReceivedBatch], unwanted: dict[str, str], stored: Stored) -> None:
        """Acknowledge what is committed, and only that; count."""
        for device, ack in stored.messages():
            self._link.acknowledge(topic(device, Channel.TELEMETRY_ACK), encode_json(ack))
        for batch in batches:
            if batch.device in unwanted:
                name = topic(batch.device, Channel.TELEMETRY)
                self._refuse(unwanted[batch.device], name, f"{batch.device!r} may not send telemetry here")
        self._tell(stored, sum(batch.device not in unwanted for batch in batches))

    def _tell(self, stored: Stored, batches: int) -> None:
        self._batches += batches
        self._counters.take(Channel.TELEMETRY, batches)
        self._records["new"] += stored.new
        self._records["duplicate"] += stored.duplicates
        self._records["refused"] += stored.refused
        self._records["conflict"] += len(stored.conflicts)

    def _refuse(self, kind: str, name: str, text: str) -> None:
        self._counters.refuse(kind, name, text, self._now())

    def report(self) -> IngestReport:
        return IngestReport(
            batches=self._batches,
            commits=self._commits,
            records=dict(self._records),
            bridge=self._counters.report(connected=self._link.connected),
        )

    def _report(self) -> None:
        now, connected = self._now(), self._link.connected
        if abs(now - self._reported) < REPORT_SECONDS and connected == self._reported_connected:
            return
        self._reported, self._reported_connected = now, connected
        report = self.report()
        self._database.append(
            lambda session: write_report(session, self._name, report, started=self._started, now=now)
        )


@lru_cache(maxsize=65_536)
def _device(name: str) -> str:
    """Of a telemetry topic; raises like :func:`parse_topic`."""
    device, channel = parse_topic(name)
    if channel is not Channel.TELEMETRY:
        raise UnknownTopicError(f"topic {name!r}: telemetry does not come on {channel}")
    return device
