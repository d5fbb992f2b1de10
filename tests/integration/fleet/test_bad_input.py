"""What bad input gets: words in the field's terms, a count, and nothing else: nothing lost, nothing crashed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from tritonclient.utils import InferenceServerException

from agent.protocol.limits import MAX_MESSAGE_BYTES
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, Channel, topic
from models.digits import data
from tests.acceptance.cameras import Camera
from tests.acceptance.processes import wait_for
from tests.acceptance.world import MODEL, Agent
from tests.support.fleet import Fleet, answered, lasting_processes, release_files

DEVICE = "camera-1"
SECONDS = 10.0
OVER_THE_BROKERS_LIMIT = 400 * 1024

TO_HUB = {
    Channel.REPORTED: (b'{"v": 1, "device": "camera-1"}', "missing required field `agent_version`"),
    Channel.PRESENCE: (b'{"v": 1, "online": "yes", "boot": "1"}', "`$.online`"),
    Channel.TELEMETRY: (
        msgspec.msgpack.encode({"v": 1, "device": "camera-1", "epoch": "1"}),
        "missing required field `records`",
    ),
    Channel.REQUEST: (msgspec.msgpack.encode({"type": "block", "v": 1, "id": -1}), "`$.id`"),
    Channel.LABELS_ACK: (b'{"v": 1, "id": "d-1"}', "missing required field `outcomes`"),
}
TO_DEVICE = {
    Channel.DESIRED: (b'{"v": 1, "device": "camera-1"}', "missing required field `director`"),
    Channel.TELEMETRY_ACK: (b'{"v": 1, "epoch": "1", "sequences": "all"}', "`$.sequences`"),
    Channel.RESPONSE: (
        msgspec.msgpack.encode({"type": "block", "id": 1}),
        "missing required field `offset`",
    ),
    Channel.COMMAND: (b'{"command": "self-destruct"}', "`$.command`"),
    Channel.LABELS: (b'{"v": 1, "id": "d-1", "model": "digits"}', "missing required field `labels`"),
    Channel.SAMPLES: (b'{"payloadType": "text"}', "missing required field `payload`"),
}
"""Channel → a payload that is almost right, and the words it gets."""
NOISE = b"\xff\xfe no encoding at all"


class Publisher:
    """Anyone on the loopback broker."""

    def __init__(self, port: int) -> None:
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="anyone", protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, name: str, payload: bytes) -> None:
        """Returns when the broker has it."""
        self._client.publish(name, payload, qos=1).wait_for_publish(SECONDS)

    def send_and_be_cut(self, name: str, payload: bytes) -> None:
        self._client.publish(name, payload, qos=1)
        wait_for("the broker to hang up", lambda: not self._client.is_connected(), seconds=SECONDS)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture(scope="module")
def fleet(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One device that serves release 1 to a camera that never rests."""
    made = Fleet(tmp_path_factory.mktemp("bad-input"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        agent = made.enrol(DEVICE)
        made.wait_rollout(made.start_rollout(1))
        agent.camera = Camera(agent.address, MODEL, *data.held_out(), 20.0)
        agent.camera.start()
        yield made
    finally:
        made.stop()


@pytest.fixture
def agent(fleet: Fleet) -> Agent:
    return fleet.agents[0]


@pytest.fixture
def anyone(fleet: Fleet) -> Iterator[Publisher]:
    publisher = Publisher(fleet.broker_port)
    yield publisher
    publisher.close()


@pytest.fixture(autouse=True)
def _nothing_lost_nothing_crashed(fleet: Fleet, agent: Agent) -> Iterator[None]:
    camera = agent.camera
    assert camera is not None
    before, seen, errors = lasting_processes(fleet), camera.tally().sent, errors_of(agent)
    yield
    assert lasting_processes(fleet) == before
    wait_for("further answers", lambda: camera.tally().sent > seen, seconds=SECONDS)
    assert camera.tally().failed == 0, camera.tally().first_failure
    wait_for("the hub to hold every record", lambda: fleet.held(agent), seconds=30)
    assert errors_of(agent).get("link-failed") == errors.get("link-failed")
    assert fleet.online() == {DEVICE}


def errors_of(agent: Agent) -> dict[str, int]:
    """What the device counts, by its own word."""
    errors: dict[str, int] = agent.edgeward("status")["state"]["errors"]
    return errors


def grown(kind: str, before: dict[str, int], now: Callable[[], dict[str, int]], by: int) -> bool:
    """Wait until ``kind`` was counted ``by`` times more; whether that is the only count that changed."""
    wait_for(f"{by} of {kind}", lambda: now().get(kind, 0) >= before.get(kind, 0) + by, seconds=SECONDS)
    return now() == {**before, kind: before.get(kind, 0) + by}


def refused(fleet: Fleet) -> dict[str, int]:
    counts: dict[str, int] = fleet.bridge()["refused"]
    return counts


def test_every_channel_is_tried() -> None:
    assert set(TO_HUB) == FROM_DEVICE
    assert set(TO_DEVICE) == FROM_HUB


def test_the_hub_counts_malformed_messages_and_says_which_field(fleet: Fleet, anyone: Publisher) -> None:
    before = refused(fleet)
    for channel, (payload, _words) in TO_HUB.items():
        anyone.send(topic(DEVICE, channel), NOISE)
        anyone.send(topic(DEVICE, channel), payload)
    assert grown("malformed", before, lambda: refused(fleet), 2 * len(TO_HUB))
    newest = [(each["topic"], each["text"]) for each in fleet.bridge()["newest"]]
    for channel, (_payload, words) in TO_HUB.items():
        assert any(name == topic(DEVICE, channel) and words in text for name, text in newest), (
            channel,
            newest,
        )


def test_the_device_counts_malformed_messages_and_says_which_field(
    fleet: Fleet, agent: Agent, anyone: Publisher
) -> None:
    before = errors_of(agent)
    for channel, (payload, _words) in TO_DEVICE.items():
        anyone.send(topic(DEVICE, channel), NOISE)
        anyone.send(topic(DEVICE, channel), payload)
    assert grown("malformed-message", before, lambda: errors_of(agent), 2 * len(TO_DEVICE))
    log = agent.service.log.read_text()
    assert [words for _payload, words in TO_DEVICE.values() if words not in log] == []
    count = errors_of(agent)["malformed-message"]
    agent.edgeward("sync")
    wait_for(
        "the hub to be told",
        lambda: fleet.devices()[DEVICE]["errors"].get("malformed-message") == count,
        seconds=SECONDS,
    )


def test_messages_that_are_nobodys_are_counted(fleet: Fleet, agent: Agent, anyone: Publisher) -> None:
    before, errors = refused(fleet), errors_of(agent)
    anyone.send("edgeward/v1/Not A Device/presence", b"{}")
    assert grown("unknown-topic", before, lambda: refused(fleet), 1)
    assert "'Not A Device' is not a device id" in fleet.bridge()["newest"][0]["text"]
    before = refused(fleet)
    anyone.send(topic("ghost", Channel.PRESENCE), b'{"online": true, "boot": "1"}')
    assert grown("unknown-device", before, lambda: refused(fleet), 1)
    assert "'ghost' is not enrolled here" in fleet.bridge()["newest"][0]["text"]
    for name in (f"edgeward/v1/{DEVICE}/nonsense", f"edgeward/v1/{DEVICE}/telemetry/ack/more", "edgeward/v2"):
        anyone.send(name, b"nobody has subscribed to this")
    assert errors_of(agent) == errors


def test_a_message_of_another_device_is_refused(fleet: Fleet, agent: Agent, anyone: Publisher) -> None:
    before, errors = refused(fleet), errors_of(agent)
    event = {"type": "event", "time": 1.0, "severity": "info", "kind": "forged", "text": "not mine"}
    records = [{"sequence": 1, "body": event}]
    batch = {"v": 1, "device": "camera-2", "epoch": "1", "records": records}
    anyone.send(topic(DEVICE, Channel.TELEMETRY), msgspec.msgpack.encode(batch))
    assert grown("wrong-device", before, lambda: refused(fleet), 1)
    desired = {"v": 1, "device": "camera-2", "director": "{}"}
    anyone.send(topic(DEVICE, Channel.DESIRED), json.dumps(desired).encode())
    assert grown("desired-refused", errors, lambda: errors_of(agent), 1)
    refusal = agent.edgeward("status")["state"]["refusal"]
    assert refusal["code"] == "wrong-device"
    assert refusal["text"] == "the desired state is for camera-2, this device is camera-1"


def test_oversized_messages_are_counted_by_both_sides(fleet: Fleet, agent: Agent, anyone: Publisher) -> None:
    before, errors = refused(fleet), errors_of(agent)
    payload = bytes(MAX_MESSAGE_BYTES + 1)
    for channel in TO_HUB:
        anyone.send(topic(DEVICE, channel), payload)
    assert grown("oversized", before, lambda: refused(fleet), len(TO_HUB))
    words = f"{MAX_MESSAGE_BYTES + 1} bytes, at most {MAX_MESSAGE_BYTES} are allowed"
    assert words in fleet.bridge()["newest"][0]["text"]
    for channel in TO_DEVICE:
        anyone.send(topic(DEVICE, channel), payload)
    assert grown("oversized-message", errors, lambda: errors_of(agent), len(TO_DEVICE))
    assert words in agent.service.log.read_text()


@pytest.mark.parametrize("channel", [Channel.TELEMETRY, Channel.COMMAND])
def test_the_broker_cuts_who_sends_what_no_one_could_take(anyone: Publisher, channel: Channel) -> None:
    anyone.send_and_be_cut(topic(DEVICE, channel), bytes(OVER_THE_BROKERS_LIMIT))


def test_a_tensor_that_does_not_fit_is_refused_by_name_and_counted(fleet: Fleet, agent: Agent) -> None:
    image = data.held_out()[0][:1]
    wrong: list[tuple[Any, str]] = [
        (image.reshape(1, -1)[:, :-1].copy(), "'image': .*shape"),
        (image.astype(np.float64), "'image': expected datatype FP32, got FP64"),
        (image.astype(np.int64), "'image': expected datatype FP32, got INT64"),
    ]
    before = agent.edgeward("status")["state"]["serving"][0]
    for tensor, words in wrong:
        with pytest.raises(InferenceServerException, match=words) as refusal:
            answered(agent, image=tensor)
        assert refusal.value.status() == "400"

    def counted() -> bool:
        after = agent.edgeward("status")["state"]["serving"][0]
        return bool(after["refused"] - before["refused"] == len(wrong))

    wait_for("the device to count them", counted, seconds=SECONDS)
    assert agent.edgeward("status")["state"]["serving"][0]["failures"] == 0
    agent.edgeward("sync")
    wait_for(
        "the hub to be told",
        lambda: fleet.devices()[DEVICE]["serving"][0]["refused"] >= len(wrong),
        seconds=SECONDS,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shiny": True}, "unknown field `shiny`"),
        ({"schema": 2}, "schema 2 is newer than 1"),
        ({"probation": {"requests": 0}}, "`$.probation.requests`"),
    ],
    ids=["unknown-field", "newer-schema", "wrong-value"],
)
def test_a_manifest_that_is_not_understood_is_not_submitted(
    fleet: Fleet, first_release: Path, change: dict[str, object], words: str
) -> None:
    files = release_files(first_release)
    manifest = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps({**manifest, "release": 9, **change}).encode()
    with fleet.people() as people:
        people.upload(files, 9)
        answer = people.submit(9)
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["detail"]
        state = people.ok("viewer", "GET", "/v1/releases/digits/9")["release"]["state"]
    assert state == "draft"
