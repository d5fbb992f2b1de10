"""One hub for every attack: the simulator's keys and repository behind a real broker, honest until a test says otherwise."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.protocol.batch_codec import decode_envelope
from agent.protocol.codec import decode_json, decode_msgpack, encode_json, encode_msgpack
from agent.protocol.ids import MANIFEST_FILENAME
from agent.protocol.state import DesiredState, ReportedState
from agent.protocol.telemetry import Body, TelemetryAck
from agent.protocol.topics import Channel, parse_topic, topic
from agent.protocol.transfer import (
    ArtifactSource,
    Block,
    BlockRequest,
    Location,
    LocationRequest,
    TransferProblem,
    TransferRequest,
)
from cloud_hub.bridge.transfer import answer as answer_honestly
from cloud_hub.config import BrokerSettings, BrokerTls
from cloud_hub.mqtt import Message, MqttLink
from cloud_hub.registry.artifacts import ArtifactStore
from tests.fault.attacks import releases
from tests.fault.trust.hub_simulator import HubSimulator

SPARE_MODELS = tuple(f"spare-{number}" for number in range(24))
"""For attacks that are made at once, a model each."""
Answer = Block | Location | TransferProblem | bytes
"""A response, or any bytes in the place of one."""
Locate = Callable[[LocationRequest], Location | TransferProblem]
Tamper = Callable[[BlockRequest, Block | TransferProblem], Iterable[Answer]]
"""What is asked, and what an honest hub would answer → what this one sends."""


@dataclass
class Heard:
    """What a device has said."""

    reports: list[ReportedState] = field(default_factory=list)
    requests: list[TransferRequest] = field(default_factory=list)
    records: list[Body] = field(default_factory=list)
    """Bodies of telemetry, in the order of their arrival."""


class HostileHub(HubSimulator):
    """Owns the broker's hub identity, every key, and the artifacts; ``tamper`` changes what it answers to requests."""

    def __init__(self, folder: Path, broker_port: int, pki: Path) -> None:
        self.content: dict[tuple[str, int], dict[str, bytes]] = {}
        super().__init__(models=("digits", "faces", *SPARE_MODELS), start=datetime.now(UTC))
        self.artifacts = ArtifactStore(folder)
        self.tamper: Tamper | None = None
        self.locate: Locate = no_location
        self.heard: dict[str, Heard] = {}
        self.deployments = 0
        self.newest_release = 100
        tls = BrokerTls(
            authority=str(pki / "ca.pem"), certificate=str(pki / "hub.pem"), key=str(pki / "hub.key")
        )
        settings = BrokerSettings(embedded=False, port=broker_port, tls=tls)
        self._link = MqttLink(settings, "whatever", lambda _kind: None)
        self._stop = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="hostile-hub", daemon=True)

    def start(self) -> None:
        self._link.start()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._link.stop()
        self._thread.join(timeout=10)

    # --- releases and orders ----------------------------------------------------------------------------------

    def release_files(
        self, model: str, release: int, names: tuple[str, ...] = ()
    ) -> dict[str, tuple[int, str]]:
        """Of a release that exists, its files; of another one, the simulator's, which nobody has."""
        files = self.content.get((model, release))
        if files is None:
            return super().release_files(model, release, names)
        prefix = f"models/{model}/{release}/"
        return {prefix + name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}

    def add(self, model: str, release: int, files: Mapping[str, bytes] | None = None) -> None:
        """Have a release's bytes, signed by nobody yet."""
        made = dict(files or releases.content(model, release))
        self.content[model, release] = made
        for data in made.values():
            self.artifacts.put(data)

    def release(self, model: str, release: int, files: Mapping[str, bytes] | None = None) -> None:
        """An honest release: its bytes, two approvers, published."""
        self.now = datetime.now(UTC)
        self.add(model, release, files)
        self.approve(model, release)

    def manifest_digest(self, model: str, release: int) -> str:
        return self.release_files(model, release)[f"models/{model}/{release}/{MANIFEST_FILENAME}"][1]

    def next_release(self) -> int:
        """A number above all others, so above a device's floor, in whichever order tests run."""
        self.newest_release += 1
        return self.newest_release

    def next_deployment(self) -> str:
        self.deployments += 1
        return f"d-{self.deployments}"

    # --- the line to a device ---------------------------------------------------------------------------------

    def publish(self, device: str, channel: Channel, payload: bytes, *, retain: bool = False) -> None:
        self._link.publish(topic(device, channel), payload, retain=retain)

    def desire(self, device: str, director: bytes | str, *, named: str | None = None) -> None:
        """Publish a desired state (``named``: the device that its envelope names)."""
        text = director if isinstance(director, str) else director.decode()
        state = DesiredState(device=named or device, director=text)
        self.publish(device, Channel.DESIRED, encode_json(state), retain=True)

    def wait_for_report(
        self,
        device: str,
        check: Callable[[ReportedState], Any],
        *,
        seconds: float = 30.0,
        since: int = 0,
    ) -> ReportedState:
        """The first report, from the ``since``-th on, of which ``check`` says something true."""
        deadline = time.monotonic() + seconds
        seen = since
        with self._news:
            while True:
                reports = self.heard.setdefault(device, Heard()).reports
                for report in reports[seen:]:
                    if check(report):
                        return report
                seen = len(reports)
                if not self._news.wait(max(0.0, deadline - time.monotonic())):
                    newest = reports[-1] if reports else None
                    raise AssertionError(f"{device} did not report it in {seconds:g} s; the newest: {newest}")

    def _run(self) -> None:
        while not self._stop.is_set():
            for item in (
                *self._link.incoming.get(16, timeout=0.05),
                *self._link.telemetry.get(16, timeout=0.0),
            ):
                if isinstance(item, Message):
                    self._take(item)

    def _take(self, message: Message) -> None:
        device, channel = parse_topic(message.topic)
        heard = self.heard.setdefault(device, Heard())
        match channel:
            case Channel.REPORTED:
                with self._news:
                    heard.reports.append(decode_json(message.payload, ReportedState))
                    self._news.notify_all()
            case Channel.REQUEST:
                request: TransferRequest = decode_msgpack(message.payload, TransferRequest)
                heard.requests.append(request)
                for response in self._answers(request):
                    payload = response if isinstance(response, bytes) else encode_msgpack(response)
                    self.publish(device, Channel.RESPONSE, payload)
            case Channel.TELEMETRY:
                batch = decode_envelope(message.payload)
                sequences = tuple(record.sequence for record in batch.records)
                with self._news:
                    heard.records.extend(record.body for record in batch.records)
                    self._news.notify_all()
                ack = TelemetryAck(epoch=batch.epoch, sequences=sequences)
                self.publish(device, Channel.TELEMETRY_ACK, encode_json(ack))
            case _:
                pass

    def _answers(self, request: TransferRequest) -> Iterable[Answer]:
        if isinstance(request, LocationRequest):
            return (self.locate(request),)
        honest = answer_honestly(request, self.store, self.artifacts)
        assert not isinstance(honest, Location)
        return (honest,) if self.tamper is None else self.tamper(request, honest)


def no_location(request: LocationRequest) -> TransferProblem:
    return TransferProblem(id=request.id, code="no-location", text="this hub offers no HTTP")


def instead_of(name: str, data: bytes | None) -> Tamper:
    """Serve ``data`` (None: nothing) under the name of one metadata file."""

    def tamper(request: BlockRequest, honest: Block | TransferProblem) -> Iterable[Answer]:
        if isinstance(request.source, ArtifactSource) or request.source.name != name:
            return (honest,)
        if data is None:
            return (TransferProblem(id=request.id, code="not-found", text=f"the hub has no {name}"),)
        part = data[request.offset : request.offset + request.length]
        return (Block(id=request.id, offset=request.offset, total=len(data), data=part),)

    return tamper


def artifacts_by(change: Callable[[BlockRequest, Block], Iterable[Answer]]) -> Tamper:
    """Tamper with blocks of artifacts only; metadata is what it is."""

    def tamper(request: BlockRequest, honest: Block | TransferProblem) -> Iterable[Answer]:
        if isinstance(request.source, ArtifactSource) and isinstance(honest, Block):
            return change(request, honest)
        return (honest,)

    return tamper
