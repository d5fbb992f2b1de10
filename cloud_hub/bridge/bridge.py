"""One thread that takes messages in order and never falls over one."""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.orm import Session

from agent.protocol.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from agent.protocol.errors import MessageTooLargeError, ProtocolError, UnknownTopicError
from agent.protocol.ids import DeviceId
from agent.protocol.labels import LabelReceipt
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.state import Command, Presence, ReportedState
from agent.protocol.topics import Channel, parse_topic, topic
from agent.protocol.transfer import LocationRequest, TransferRequest, TransferResponse
from cloud_hub.bridge.transfer import answer
from cloud_hub.devices.models import Device
from cloud_hub.devices.service import take_presence, take_report
from cloud_hub.hub import Hub
from cloud_hub.labels import service as labels
from cloud_hub.mqtt import Connected, Incoming, Message, MqttLink
from cloud_hub.rollouts import documents, reports
from cloud_hub.samples.service import devices_with_offers, open_offers

log = logging.getLogger(__name__)


class RefusedMessageError(Exception):
    """A message is well formed and yet not taken."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Bridge:
    """Between one MQTT connection and the hub, for all but telemetry. Also the hub's publisher of desired states."""

    def __init__(self, hub: Hub, link: MqttLink) -> None:
        self._hub = hub
        self._link = link
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hub-bridge", daemon=True)
        self._handlers: dict[Channel, Callable[[DeviceId, bytes], None]] = {
            Channel.REPORTED: self._reported,
            Channel.PRESENCE: self._presence,
            Channel.REQUEST: self._request,
            Channel.LABELS_ACK: self._labels_joined,
        }

    @property
    def connected(self) -> bool:
        return self._link.connected

    def start(self) -> None:
        self._thread.start()
        self._link.start()

    def stop(self) -> None:
        """Finish the message that is under way; the rest is sent again by the devices."""
        self._link.stop()
        self._stop.set()
        self._thread.join(timeout=10)

    def publish_desired(self, device: str) -> None:
        """Publish a device's desired state, retained; nothing where it has none."""
        payload = self._hub.database.read(lambda session: documents.desired_payload(session, device))
        if payload is not None:
            self._link.publish(topic(device, Channel.DESIRED), payload, retain=True)

    def offer_samples(self, device: str) -> None:
        """Offer a device the requests for samples that it has not answered yet."""
        now = self._hub.now()
        for envelope in self._hub.database.read(lambda session: open_offers(session, device, now)):
            self._link.publish(topic(device, Channel.SAMPLES), envelope)

    def offer_labels(self, device: str) -> None:
        """Send a device the labels that it has not acknowledged yet."""
        for payload in self._hub.database.read(lambda session: labels.open_deliveries(session, device)):
            self._link.publish(topic(device, Channel.LABELS), payload)

    def command_sync(self, device: str) -> None:
        """Ask a device to report and send its telemetry again."""
        self._link.publish(topic(device, Channel.COMMAND), encode_json(Command(command="sync")))

    def _run(self) -> None:
        while not self._stop.is_set():
            for item in self._link.incoming.get(1, timeout=0.25):
                self.handle(item)

    def handle(self, item: Incoming) -> None:
        """Take one message; whatever it is, the next one is taken too."""
        if isinstance(item, Connected):
            self._guard("", self._publish_everything)
        else:
            self._guard(item.topic, lambda: self._take(item))

    def _guard(self, name: str, work: Callable[[], None]) -> None:
        """Whatever one message does, the next one is taken."""
        now = self._hub.now()
        try:
            work()
        except RefusedMessageError as error:
            self._hub.counters.refuse(error.kind, name, str(error), now)
        except MessageTooLargeError as error:
            self._hub.counters.refuse("oversized", name, str(error), now)
        except UnknownTopicError as error:
            self._hub.counters.refuse("unknown-topic", name, str(error), now)
        except ProtocolError as error:
            self._hub.counters.refuse("malformed", name, str(error), now)
        except Exception as error:  # the bridge outlives any defect; it is counted, shown and logged
            log.exception("message failed", extra={"topic": name})
            self._hub.counters.refuse("failed", name, repr(error), now)

    def _take(self, message: Message) -> None:
        if len(message.payload) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(
                f"{len(message.payload)} bytes, at most {MAX_MESSAGE_BYTES} are allowed"
            )
        device, channel = parse_topic(message.topic)
        if channel not in self._handlers:
            raise UnknownTopicError(f"topic {message.topic!r}: devices do not publish on {channel}")
        self._handlers[channel](device, message.payload)
        self._hub.counters.take(channel)

    def _known(self, device: DeviceId) -> None:
        self._hub.database.read(lambda session: _identified(session, device))

    def _reported(self, device: DeviceId, payload: bytes) -> None:
        state = decode_json(payload, ReportedState)
        _same(device, state.device)
        now = self._hub.now()

        def take(session: Session) -> tuple[str, ...]:
            row = _identified(session, device)
            new_boot = row.reported_boot != state.boot
            if not take_report(session, row, state, payload, now):
                return ()
            changed = reports.take_report(session, state, signing=self._hub.director_signing, now=now)
            return (*changed, device) if new_boot else changed

        for name in dict.fromkeys(self._hub.database.write(take)):
            self.publish_desired(name)

    def _presence(self, device: DeviceId, payload: bytes) -> None:
        presence = decode_json(payload, Presence)
        now = self._hub.now()

        def take(session: Session) -> None:
            row = _identified(session, device)
            take_presence(session, row, presence, now)

        self._hub.database.write(take)
        if presence.online:
            self.publish_desired(device)
            self.offer_samples(device)
            self.offer_labels(device)

    def _labels_joined(self, device: DeviceId, payload: bytes) -> None:
        receipt, now = decode_json(payload, LabelReceipt), self._hub.now()

        def take(session: Session) -> bool:
            _identified(session, device)
            return labels.take_receipt(session, device, receipt, now)

        if self._hub.database.write(take):
            self.offer_labels(device)  # the next ones

    def _request(self, device: DeviceId, payload: bytes) -> None:
        self._known(device)
        request: TransferRequest = decode_msgpack(payload, TransferRequest)
        response: TransferResponse
        if isinstance(request, LocationRequest):
            response = self._hub.downloads.locate(device, request)
        else:
            response = answer(request, self._hub.metadata, self._hub.artifacts)
        self._link.publish(topic(device, Channel.RESPONSE), encode_msgpack(response))

    def _publish_everything(self) -> None:
        for device in self._hub.database.read(documents.devices_with_documents):
            self.publish_desired(device)
        now = self._hub.now()
        for device in self._hub.database.read(lambda session: devices_with_offers(session, now)):
            self.offer_samples(device)
        for device in self._hub.database.read(labels.devices_with_deliveries):
            self.offer_labels(device)


def _same(of_topic: str, of_payload: str) -> None:
    if of_topic != of_payload:
        raise RefusedMessageError(
            "wrong-device", f"the topic is {of_topic}'s, the message says it is {of_payload}'s"
        )


def _identified(session: Session, device: str) -> Device:
    row = session.get(Device, device)
    if row is None:
        raise RefusedMessageError("unknown-device", f"device {device!r} is not enrolled here")
    if row.revoked is not None:
        raise RefusedMessageError("revoked-device", f"device {device!r} was revoked: {row.revoked_reason}")
    return row
