"""A release whose last layer changed comes by a patch: a real hub makes it, approvers' clients apply it, a real device does."""

import hashlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.codec import decode_msgpack
from agent.protocol.manifest import decode_manifest
from agent.protocol.patches import parse_patch_name
from agent.protocol.telemetry import Event
from agent.protocol.topics import Channel, topic
from agent.protocol.transfer import Block, TransferResponse
from cloud_hub.approvals.client import approve
from cloud_hub.signing.keys import file_uri, private_path, public_path
from cloud_hub.telemetry.bodies import decode_body
from hw_bench.delta.weights import OnnxWeights
from models.description import read_description
from models.faults import _readdress_bench
from tests.acceptance.processes import run, wait_for
from tests.acceptance.world import MODEL, Agent
from tests.support.fleet import Fleet, _package, answered, release_files, served_release, start

DEVICE = "camera-1"


def trained_again(source: Path, folder: Path, release: int) -> Path:
    """Another release: the last layer of each fp32 ONNX variant moved by the least that a number can, release by release."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("manifest.json"))
    description = read_description(folder)
    for variant in description.variants:
        if variant.runtime == "onnx" and variant.precision == "fp32":
            path = folder / variant.filename
            for _ in range(release - 1):
                weights = OnnxWeights(path.read_bytes())
                last = frozenset({len(weights.layers) - 1})
                path.write_bytes(weights.changed(lambda values: np.nextafter(values, np.float32(9)), last))
    _readdress_bench(folder, description)
    return _package(folder, release)


class Wire:
    """Every block that the hub answers with, as the broker hands it to anyone who listens."""

    def __init__(self, port: int) -> None:
        self.bytes_of_total: Counter[int] = Counter()
        self.payload_bytes = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="wire", protocol=paho.MQTTv5)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(topic(DEVICE, Channel.RESPONSE), qos=1)

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.payload_bytes += len(message.payload)
        answer = decode_msgpack(bytes(message.payload), TransferResponse)
        if isinstance(answer, Block):
            self.bytes_of_total[answer.total] += len(answer.data)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def fleet(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One device that serves release 1, and fetches by MQTT alone, so that the broker shows every byte."""
    made = Fleet(tmp_path_factory.mktemp("patched-fleet"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        agent = made._make_agent(DEVICE)
        with (agent.folder / "agent.toml").open("a", encoding="utf-8") as config:
            config.write('\n[transfer]\norder = ["mqtt"]\n')
        made.agents.append(agent)
        start(agent)
        made.wait_rollout(made.start_rollout(1))
        yield made
    finally:
        made.stop()


@pytest.fixture
def wire(fleet: Fleet) -> Iterator[Wire]:
    found = Wire(fleet.broker_port)
    yield found
    found.close()


def approve_with_the_client(fleet: Fleet, folder: Path, release: int) -> list[str]:
    """Two approvers look at the draft with their own client and sign; returns what they were shown."""
    trust = folder / "approver"
    trust.mkdir()
    shutil.copy(fleet.hub_folder / "metadata" / "1.root.json", trust / "root.json")
    shown: list[str] = []

    def confirm(text: str) -> bool:
        shown.append(text)
        return True

    for name in ("alice", "bob"):
        approve(
            hub_url=fleet.url,
            token=fleet.token_file("alice").read_text(),
            trust_dir=trust,
            key_uri=file_uri(private_path(fleet.keys / "approvers", name)),
            public_key_path=public_path(fleet.keys / "approvers", name),
            model=MODEL,
            release=release,
            confirm=confirm,
        )
    return shown


def events(fleet: Fleet, kind: str) -> list[str]:
    with closing(sqlite3.connect(f"file:{fleet.hub_folder}/hub.db?mode=ro", uri=True)) as database:
        bodies = database.execute("SELECT body FROM telemetry WHERE kind = 'event'").fetchall()
    found = [decode_body(body) for (body,) in bodies]
    return [event.text for event in found if isinstance(event, Event) and event.kind == kind]


def test_a_changed_last_layer_travels_as_a_patch(
    fleet: Fleet, first_release: Path, wire: Wire, tmp_path: Path
) -> None:
    (agent,) = fleet.agents
    next_release = trained_again(first_release, tmp_path / "release-2", 2)
    with fleet.people() as people:
        people.upload(release_files(next_release), 2)
        assert people.submit(2).is_success
        files = people.ok("viewer", "GET", f"/v1/releases/{MODEL}/2")["files"]
    patches = {each["filename"]: each["size"] for each in files if parse_patch_name(each["filename"])}
    shown = approve_with_the_client(fleet, tmp_path, 2)
    assert "from release 1:" in shown[0]
    fleet.wait_rollout(fleet.start_rollout(2))
    assert served_release(agent) == 2
    assert answered(agent) is not None
    artifact = serving_artifact(agent)
    manifest = decode_manifest((next_release / "manifest.json").read_bytes())
    (chosen,) = [each for each in manifest.variants if each.artifact.sha256 == artifact]
    stored = agent.folder / "state" / "artifacts" / "sha256" / artifact[:2] / artifact
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == artifact
    sizes = {parse_patch_name(name): size for name, size in patches.items()}
    patch = min(
        size for name, size in sizes.items() if name is not None and name.target == chosen.artifact.filename
    )
    wait_for("the device's own word on it", lambda: events(fleet, "patched"), seconds=20)
    text = (
        f"{chosen.artifact.filename} was made from a patch of {patch} bytes instead of {chosen.artifact.size}"
    )
    assert text in events(fleet, "patched")
    assert events(fleet, "patch-failed") == []
    assert wire.bytes_of_total[patch] == patch, "the patch travelled, once"
    assert wire.bytes_of_total[chosen.artifact.size] == 0, "nothing of the whole file did"
    assert patch < 0.25 * chosen.artifact.size
    partial = agent.folder / "state" / "artifacts" / "partial"
    assert not list(partial.iterdir())
    left = {path.name for path in stored.parent.parent.glob("??/*")}
    assert not left & {each["sha256"] for each in files if each["filename"] in patches}, "no patch is kept"


def serving_artifact(agent: Agent) -> str:
    found: str = agent.edgeward("status")["state"]["serving"][0]["artifact"]
    return found


def test_a_patch_that_rotted_on_the_hub_leads_to_the_whole_file(
    fleet: Fleet, first_release: Path, wire: Wire, tmp_path: Path
) -> None:
    (agent,) = fleet.agents
    fleet.publish(trained_again(first_release, tmp_path / "release-3", 3), 3)
    with fleet.people() as people:
        files = people.ok("viewer", "GET", f"/v1/releases/{MODEL}/3")["files"]
    patches = [each for each in files if parse_patch_name(each["filename"])]
    for patch in patches:
        stored = fleet.hub_folder / "artifacts" / patch["sha256"]
        assert stored.stat().st_size == patch["size"]
        stored.write_bytes(bytes(patch["size"]))
    fleet.wait_rollout(fleet.start_rollout(3), seconds=120)
    assert served_release(agent) == 3
    (whole,) = {each["size"] for each in files if each["sha256"] == serving_artifact(agent)}
    assert wire.bytes_of_total[whole] == whole
    failed = wait_for("the device's own word on it", lambda: events(fleet, "patch-failed"), seconds=20)
    assert all("the bytes received have SHA-256" in text for text in failed)
    assert agent.edgeward("status")["state"]["errors"]["patch-failed"] == len(failed)


def test_a_device_that_the_hub_holds_keeps_what_it_has_until_it_is_resumed(
    fleet: Fleet, first_release: Path, tmp_path: Path
) -> None:
    (agent,) = fleet.agents
    before = served_release(agent)
    fleet.publish(trained_again(first_release, tmp_path / "release-4", 4), 4)
    olga = fleet.as_person("olga")
    run("edgeward-hub", "devices", "hold", DEVICE, "--reason", "the line is being audited", *olga)
    rollout = fleet.start_rollout(4)
    boot = wait_for("it to wait for the hub", lambda: boot_that_waits(fleet), seconds=20)
    agent.service.kill()
    start(agent)
    wait_for("it to serve again", lambda: answered(agent) is not None, seconds=30)
    wait_for("it to wait for the hub again", lambda: boot_that_waits(fleet) not in (None, boot), seconds=20)
    agent.edgeward("resume")  # a technician's word ends a technician's hold
    assert "the line is being audited" in run("edgeward-hub", "rollout", "show", str(rollout), *olga)
    assert served_release(agent) == before
    run("edgeward-hub", "devices", "resume", DEVICE, *olga)
    fleet.wait_rollout(rollout)
    assert served_release(agent) == 4


def boot_that_waits(fleet: Fleet) -> str | None:
    """Since which start the device says that release 4 waits for the hub, as the hub has it."""
    reported = fleet.devices()[DEVICE]
    waiting = [each["waiting_for"] for each in reported["deployments"] if each["release"] == 4]
    boot: str = reported["boot"]
    return boot if waiting and waiting[0] and waiting[0]["code"] == "held-by-hub" else None
