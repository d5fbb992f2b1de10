"""Messages that nobody asked for: commands that are none, answers to nothing, floods, acknowledgements of everything."""

import random
import time

import msgspec
import psutil

from agent.protocol.codec import encode_json, encode_msgpack
from agent.protocol.labels import MAX_LABELS, Label, LabelDelivery
from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.telemetry import TelemetryAck
from agent.protocol.topics import Channel
from agent.protocol.transfer import ArtifactSource, Block, Location, TransferProblem
from agent.protocol.words import REASON_CHARACTERS
from tests.fault.attacks.device import AttackedDevice
from tests.fault.attacks.hostile_hub import HostileHub
from tests.support.own_children import children_running

COMMANDS = (
    b'{"v": 1, "command": "run", "argv": ["sh"]}',
    b'{"v": 1, "command": "sync; reboot"}',
    b'{"v": 2, "command": "sync"}',
    b'{"v": 1, "command": ' + b"[" * 100_000,
    b"sync",
    b"\x00" * 1_000,
)
RESPONSES = (
    b"\x91" * 100_000,  # a list in a list in a list
    b"\x81\xa4type" * 10_000,
    b"\xdf\xff\xff\xff\xff",  # a map of four thousand million entries
    b"\xc6\xff\xff\xff\xff",  # four gigabytes of bytes
    msgspec.msgpack.encode({"type": "block", "id": 1, "offset": -1, "total": 1, "data": b"x"}),
    msgspec.msgpack.encode({"type": "nonsense"}),
)
DESIRED = (
    b'{"v": 1, "device": "cam-1", "director": "\\ud800"}',
    b'{"v": 1, "device": "cam-1", "director": {}}',
    b'{"v": 1, "device": ' + b"[" * 100_000,
    b'{"v": 1, "device": "../cam-1", "director": "{}"}',
    b'{"v": 1, "device": "cam-1", "director": "' + b"x" * 70_000 + b'"}',
)


LABELS = (
    b'{"v": 1, "id": "l-1", "model": "digits", "labels": []}',
    b'{"v": 1, "id": "l-1", "model": "../x", "labels": [{"request": "r", "label": "3", "origin": "person"}]}',
    b'{"v": 1, "id": "l-1", "model": "digits", "labels": [{"request": "r", "label": "\\u001b[2J", "origin": "person"}]}',
    b'{"v": 1, "id": "l-1", "model": "digits", "labels": [{"request": "r", "label": "3", "origin": "god"}]}',
    b'{"v": 1, "id": "l-1", "model": "digits", "labels": ' + b"[" * 100_000,
)


def test_commands_that_are_none(hub: HostileHub, device: AttackedDevice) -> None:
    """There is nothing that a hub can have a device execute; what is no command is counted, and over with."""
    before = device.errors().get("malformed-message", 0)
    children = {child.pid for child in psutil.Process(device.pid).children(recursive=True)}
    for payload in COMMANDS:
        hub.publish(device.name, Channel.COMMAND, payload)
    assert device.counts("malformed-message", before + len(COMMANDS))
    assert {child.pid for child in psutil.Process(device.pid).children(recursive=True)} <= children


def test_messages_that_would_blow_up_a_parser(hub: HostileHub, device: AttackedDevice) -> None:
    before, memory = device.errors().get("malformed-message", 0), device.memory_mib()
    for payload in RESPONSES:
        hub.publish(device.name, Channel.RESPONSE, payload)
    for payload in DESIRED:
        hub.publish(device.name, Channel.DESIRED, payload)
    assert device.counts("malformed-message", before + len(RESPONSES) + len(DESIRED))
    assert device.memory_mib() < memory + 16


def test_answers_that_nobody_asked_for(hub: HostileHub, device: AttackedDevice) -> None:
    before = device.errors().get("stale-response", 0)
    randomness = random.Random(0)
    for _ in range(50):
        identity = randomness.getrandbits(48)
        for answer in (
            Block(id=identity, offset=0, total=2**40, data=bytes(60_000)),
            Location(id=identity, url="http://127.0.0.1:1/evil", expires=4e9, etag="0" * 64),
            TransferProblem(id=identity, code="not-found", text="x"),
        ):
            hub.publish(device.name, Channel.RESPONSE, encode_msgpack(answer))
    assert device.counts("stale-response", before + 150)


def test_a_flood_of_desired_states(hub: HostileHub, device: AttackedDevice) -> None:
    """Only the newest is looked at, one at a time, and clients are answered all the while."""
    slowest = 0.0
    for number in range(200):
        hub.desire(device.name, f"flood {number}")
        if number % 20 == 0:
            began = time.monotonic()
            assert device.answer() is not None
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5.0
    assert device.refuses("the last one").code == "malformed"
    assert len(children_running(device.pid, "agent.trust")) <= 1


def test_acknowledgements_of_what_was_never_sent(hub: HostileHub, device: AttackedDevice) -> None:
    """A stolen hub may throw away what it is given; the ledger adds up, and what is recorded later is sent."""
    outbox = device.status().state.outbox
    ahead = tuple(range(outbox.recorded + 1, outbox.recorded + 20_000))
    hub.publish(
        device.name, Channel.TELEMETRY_ACK, encode_json(TelemetryAck(epoch=outbox.epoch, sequences=ahead))
    )
    hub.publish(
        device.name, Channel.TELEMETRY_ACK, encode_json(TelemetryAck(epoch="another", sequences=(1, 2, 3)))
    )
    device.commits(1)
    after = device.status().state.outbox
    assert after.recorded > outbox.recorded
    assert after.acknowledged <= after.recorded
    assert after.recorded == after.acknowledged + after.pending + sum(after.dropped.values())


def test_labels_that_are_none_and_a_flood_of_them(hub: HostileHub, device: AttackedDevice) -> None:
    """Labels change figures and nothing else; who sends them all the time has neither the memory nor the clients' time."""
    errors = device.errors()
    for payload in LABELS:
        hub.publish(device.name, Channel.LABELS, payload)
    assert device.counts("malformed-message", errors.get("malformed-message", 0) + len(LABELS))
    memory, slowest = device.memory_mib(), 0.0
    labels = tuple(
        Label(request=f"{number:0128x}", label="3", origin="person") for number in range(MAX_LABELS)
    )
    for number in range(100):
        delivery = LabelDelivery(id=f"flood-{number}", model="digits", labels=labels)
        hub.publish(device.name, Channel.LABELS, encode_json(delivery))
        if number % 10 == 0:
            began = time.monotonic()
            assert device.answer() is not None
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5.0
    assert device.counts("labels-queue-full", 1)
    assert device.memory_mib() < memory + 16


def test_words_for_a_terminal_and_by_the_quarter_megabyte(hub: HostileHub, device: AttackedDevice) -> None:
    """A hub's words end in the device's report and on its technician's terminal: bounded, and printable."""
    release = hub.next_release()
    hub.release("digits", release)
    text = "\x1b[2J\x1b]0;owned\x07" + "x" * (MAX_MESSAGE_BYTES - 1_000)
    hub.tamper = lambda request, honest: (
        TransferProblem(id=request.id, code="not-found", text=text)
        if isinstance(request.source, ArtifactSource)
        else honest,
    )
    director, deployment = device.order(release)
    since = device.reports()
    reason = device.rejects(director, deployment)
    assert reason.code == "fetch-failed"
    assert r"\x1b[2J" in reason.text
    assert len(reason.text) <= REASON_CHARACTERS
    assert reason.text.isprintable()
    device.hears(
        lambda report: any(one.deployment == deployment and one.reason for one in report.deployments), since
    )
