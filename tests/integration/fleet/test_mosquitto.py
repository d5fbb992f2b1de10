"""Identity end to end: hub, Mosquitto with our files, and two devices, each known by its certificate."""

import contextlib
import shutil
import signal
import sqlite3
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.codec import encode_msgpack
from agent.protocol.drift import Withheld
from agent.protocol.telemetry import Window
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, Channel, topic
from agent.protocol.transfer import BlockRequest, MetadataSource
from agent.store.thinning import decode_body
from agent.transport.identity_files import IdentityFiles
from models.digits import data
from tests.acceptance.processes import run, wait_for
from tests.acceptance.world import MODEL, Agent
from tests.support.fleet import answered, start
from tests.support.mosquitto import MOSQUITTO, Peer
from tests.support.mosquitto_fleet import MosquittoFleet

NOT_AUTHORIZED = 0x87

pytestmark = pytest.mark.skipif(
    MOSQUITTO is None, reason="mosquitto (Debian package mosquitto) is not installed"
)


@pytest.fixture(scope="module")
def fleet(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoFleet]:
    """Two devices that have committed release 1."""
    made = MosquittoFleet(tmp_path_factory.mktemp("mosquitto"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        made.enrol("camera-1")
        made.enrol("camera-2")
        made.wait_rollout(made.start_rollout(1))
        yield made
    finally:
        made.stop()
        if hasattr(made, "broker"):
            made.broker.stop()


@pytest.fixture
def camera_1(fleet: MosquittoFleet) -> Iterator[Peer]:
    """A client that has stolen the certificate of camera-1, which is off meanwhile (the client id is its name)."""
    agent = fleet.agents[0]
    agent.service.stop()
    files = IdentityFiles.within(agent.folder / "state" / "identity").tls()
    peer = Peer(fleet.broker.port, files, "whatever")
    assert not peer.open().is_failure
    yield peer
    peer.close()
    start(agent)
    wait_for("camera-1 to be back", lambda: fleet.online() == {"camera-1", "camera-2"}, seconds=30)
    wait_for("camera-1 to serve again", lambda: answered(agent) is not None, seconds=20)


def test_both_devices_commit_over_tls(fleet: MosquittoFleet) -> None:
    committed = {name: report["deployments"][0]["phase"] for name, report in fleet.devices().items()}
    assert committed == {"camera-1": "committed", "camera-2": "committed"}
    assert fleet.online() == {"camera-1", "camera-2"}


def test_a_devices_certificate_opens_its_own_topics_only(fleet: MosquittoFleet, camera_1: Peer) -> None:
    refused = fleet.bridge()["refused"]
    for channel in Channel:
        assert camera_1.publish(topic("camera-2", channel), b"forged").value == NOT_AUTHORIZED, channel
    for channel in FROM_HUB:
        assert camera_1.publish(topic("camera-1", channel), b"forged").value == NOT_AUTHORIZED, channel
    assert fleet.bridge()["refused"] == refused
    assert not camera_1.publish(topic("camera-1", Channel.REPORTED), b"garbage, and it arrives").is_failure
    wait_for("the hub to count it", lambda: fleet.bridge()["refused"] != refused, seconds=10)


def test_a_devices_certificate_reads_its_own_topics_only(fleet: MosquittoFleet, camera_1: Peer) -> None:
    """Everything retained and everything live: the hub sends both devices their desired state, camera-2 reports."""
    for pattern in ("edgeward/v1/#", "edgeward/v1/camera-2/#", topic("camera-2", Channel.DESIRED), "#"):
        camera_1.subscribe(pattern)
    for channel in FROM_DEVICE:
        camera_1.subscribe(topic("camera-2", channel))
    reported = fleet.devices()["camera-2"]["sequence"]
    fleet.agents[1].edgeward("sync")
    wait_for("camera-2 to report", lambda: fleet.devices()["camera-2"]["sequence"] > reported, seconds=10)
    request = BlockRequest(id=1, source=MetadataSource(name="timestamp.json"), offset=0, length=1)
    camera_1.publish(topic("camera-1", Channel.REQUEST), encode_msgpack(request))
    received = {camera_1.receive()[0]}
    while (
        topic("camera-1", Channel.RESPONSE) not in received
    ):  # what was for camera-2 has gone out before this
        received.add(camera_1.receive()[0])
    assert received == {topic("camera-1", Channel.DESIRED), topic("camera-1", Channel.RESPONSE)}


def test_labels_from_everyone_come_back_as_real_accuracy(fleet: MosquittoFleet, tmp_path: Path) -> None:
    """From a technician, by file, over HTTP, and from the hub while the device is off; each counts once, by its own rank."""
    agent = fleet.agents[0]
    images, digits = data.held_out()
    said = {f"part-{number}": _asked(agent, f"part-{number}", images[number]) for number in range(40)}
    truth = {request: str(digits[number]) for number, request in enumerate(said)}
    requests = list(said)
    agent.service.stop()
    with agent.config.open("a") as config:
        config.write("\n[labels]\nreport_seconds = 0.5\nwrite_seconds = 0.5\n")
    path = "/v1/devices/camera-1/labels"
    file = tmp_path / "measured.csv"
    file.write_text(
        "request,label\n" + "".join(f"{each},{truth[each]}\n" for each in requests[:10]) + "nobody,3\n"
    )
    hub = ("--hub", fleet.url, "--token-file", str(fleet.token_file("olga")))
    run("edgeward-hub", "labels", "send", "camera-1", MODEL, str(file), *hub)
    start(agent)
    wait_for("the device to serve again", lambda: answered(agent) is not None, seconds=20)
    (delivery,) = wait_for(
        "the hub's labels to be joined",
        lambda: [each for each in fleet.client("victor").get(path) if each["settled"]],
        seconds=30,
    )
    assert delivery["outcomes"] == {"joined": 10, "unknown": 1}
    assert delivery["refused"][0]["request"] == "nobody"

    agent.edgeward("label", requests[10], truth[requests[10]])
    assert agent.edgeward("label", requests[10], truth[requests[10]])["answers"][0]["outcome"] == "repeated"
    file = tmp_path / "labels.csv"
    file.write_text("request,label\n" + "".join(f"{each},{truth[each]}\n" for each in requests[:20]))
    answers = agent.edgeward("label", "--file", str(file))["answers"]
    assert [each["outcome"] for each in answers] == ["corrected"] * 10 + ["repeated"] + ["joined"] * 9
    labels = [_label(each, said[each], "model") for each in requests[20:]]
    refused = httpx.post(f"http://{agent.address}/v2/models/{MODEL}/labels", json={"labels": labels})
    assert refused.status_code == 403, "whoever reaches the port could say that they are a person"
    socket = httpx.HTTPTransport(uds=str(agent.folder / "run" / "models" / f"{MODEL}.sock"))
    with httpx.Client(transport=socket, base_url="http://localhost", timeout=30) as client:
        answer = client.post(f"/v2/models/{MODEL}/labels", json={"labels": labels})
    assert {each["outcome"] for each in answer.json()["answers"]} == {"joined"}

    correct = sum(said[each] == truth[each] for each in requests[:20])
    expected = {"person": (correct, 20), "model": (20, 20)}
    figures = agent.edgeward("accuracy")["figures"]
    assert {each["origin"]: (each["correct"], each["rows"]) for each in figures} == expected
    assert all(each["expected"] is not None for each in figures)  # the release has a calibration

    def on_the_hub() -> bool:
        found = fleet.client("victor").get(f"/v1/accuracy/{MODEL}")
        return {each["origin"]: (each["correct"], each["rows"]) for each in found} == expected

    wait_for("the hub to know", on_the_hub, seconds=30)
    shown = run("edgeward-hub", "labels", "show", "camera-1", *hub)
    assert "11 labels: 10 joined, 1 unknown" in shown
    assert "nobody: unknown: no request of that id is kept" in shown
    assert f"labels of person, {_today()}" in run("edgeward-hub", "labels", "accuracy", MODEL, *hub)

    agent.service.kill()  # what was answered was durable
    start(agent)
    assert agent.edgeward("accuracy")["figures"] == figures
    wait_for("it to be back", lambda: fleet.online() == {"camera-1", "camera-2"}, seconds=30)
    wait_for("it to serve again", lambda: answered(agent) is not None, seconds=20)


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def _label(request: str, label: str, origin: str) -> dict[str, str]:
    return {"request": request, "label": label, "origin": origin}


def _asked(agent: Agent, request: str, image: Any) -> str:
    """The digit that the device reads, in a request that carries an id."""
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 8, 8], "data": image.reshape(-1).tolist()}
    answer = httpx.post(
        f"http://{agent.address}/v2/models/{MODEL}/infer", json={"id": request, "inputs": [tensor]}
    )
    output = answer.json()["outputs"][0]["data"]
    return str(output.index(max(output)))


def test_nothing_connects_without_a_certificate(fleet: MosquittoFleet) -> None:
    client = Client(CallbackAPIVersion.VERSION2, "camera-1", protocol=MQTTv5, reconnect_on_failure=False)
    client.tls_set_context(ssl.create_default_context(cafile=fleet.broker.pki / "ca.pem"))
    heard: list[str] = []
    client.on_connect = lambda *_: heard.append("connected")
    client.on_disconnect = lambda *_: heard.append("cut")
    # Under TLS 1.3 the refusal comes after the client's side of the handshake.
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        client.connect("127.0.0.1", fleet.broker.port)
        while client.loop(timeout=5.0) == 0:
            pass
    assert heard in ([], ["cut"])


def test_a_broker_that_was_killed_costs_nothing_but_time(fleet: MosquittoFleet) -> None:
    pids = [agent.service.pid for agent in fleet.agents]
    before = fleet.devices()
    fleet.broker.stop(signal.SIGKILL)
    shutil.rmtree(fleet.folder / "data")  # as if its disk were new: no session, no retained message
    (fleet.folder / "data").mkdir()
    wait_for("the hub to notice", lambda: not fleet.bridge()["connected"], seconds=20)
    for agent in fleet.agents:
        assert answered(agent) is not None
        agent.edgeward("hold", "--reason", "written down while nobody listens")
        agent.edgeward("resume")
    fleet.broker.start()
    for agent in fleet.agents:
        held = wait_for(f"{agent.name}'s records to arrive", partial(fleet.held, agent), seconds=60)
        assert held > 0
    wait_for("both to be online", lambda: fleet.online() == {"camera-1", "camera-2"}, seconds=30)
    after = wait_for("new reports", lambda: _newer(before, fleet), seconds=30)
    assert all(report["deployments"][0]["phase"] == "committed" for report in after.values())
    assert [agent.service.pid for agent in fleet.agents] == pids
    fleet.require_alive()


def test_stolen_hub_keys_are_recovered_from_while_everything_runs(fleet: MosquittoFleet) -> None:
    """One command beside the running hub: both devices take the new documents, and what they are asked next."""
    before = {
        name: fleet.client("victor").get(f"/v1/devices/{name}")["desired_version"] for name in fleet.online()
    }
    keys = [
        part for name in ("root-1", "root-3") for part in ("--key", f"file2:{fleet.keys}/offline/{name}.pem")
    ]
    run("edgeward-hub", "ceremony", "recover-online", "--config", str(fleet.hub_config), "--yes", *keys)
    for name, version in before.items():
        path = f"/v1/devices/{name}"
        wait_for(
            f"{name}'s document to be signed anew",
            lambda path=path, version=version: fleet.client("victor").get(path)["desired_version"] > version,  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            seconds=20,
        )
    fleet.wait_rollout(
        fleet.start_rollout(1)
    )  # nobody refuses a document of the new keys, under the new root
    assert [agent.edgeward("status")["state"]["refusal"] for agent in fleet.agents] == [None, None]
    assert all(answered(agent) is not None for agent in fleet.agents)
    fleet.require_alive()


def test_an_approver_asks_for_samples_by_the_command_and_gets_them_once(
    fleet: MosquittoFleet, tmp_path: Path
) -> None:
    """From an odd image on the device to a file at the approver's, over the broker's access rules; then the owner's own copy."""
    agent = fleet.agents[1]
    agent.service.stop()
    agent.config.write_text(
        agent.config.read_text()
        + "\n[samples]\nenabled = true\nmay_leave = true\n\n[privacy]\ncounts = 'suppressed'\n"
    )
    start(agent)
    odd = np.full_like(data.held_out()[0][:1], 7.0)

    def answers() -> bool:
        try:
            return answered(agent, image=odd) is not None
        except ConnectionRefusedError:  # it speaks to its technician before it listens
            return False

    wait_for("an answer", answers, seconds=60)
    kept = wait_for("a sample", lambda: agent.edgeward("samples")["samples"], seconds=30)
    to_hub = ("--hub", fleet.url, "--token-file", str(fleet.token_file("alice")))
    asked = run(
        *("edgeward-hub", "samples", "request", MODEL, "--device", agent.name, "--releases", "1"),
        *("--purpose", "why is it wrong", "--key", f"file2:{fleet.keys}/approvers/alice.pem", "--yes"),
        *to_hub,
    )
    request = asked.split()[1].removesuffix(":")

    def arrived() -> dict[str, Any] | None:
        (found,) = fleet.client("victor").get(f"/v1/samples/requests/{request}")["devices"]
        return dict(found) if found["chosen"] and found["arrived"] == found["chosen"] else None

    offer = wait_for("the samples to arrive", arrived, seconds=60)
    assert (offer["accepted"], offer["code"]) == (True, "accepted")
    run("edgeward-hub", "samples", "download", request, "--out", str(tmp_path / "hub"), *to_hub)
    run("edgeward", "samples", "export", str(tmp_path / "own"), "--socket", str(agent.socket))
    for folder, name in (
        (tmp_path / "hub", f"{agent.name}.{kept[0]['id']}"),
        (tmp_path / "own", kept[0]["id"]),
    ):
        with np.load(folder / f"{name}.npz") as arrays:
            assert np.array_equal(arrays["input.image"], odd)
    departure = agent.edgeward("samples")["departures"][0]
    assert (departure["samples"], departure["sent"]) == (offer["chosen"], offer["chosen"])
    assert departure["purpose"] == "why is it wrong"
    assert agent.query("SELECT sample FROM samples_left_readable WHERE acknowledged_utc IS NOT NULL")
    with contextlib.closing(sqlite3.connect(f"file:{fleet.hub_folder}/hub.db?mode=ro", uri=True)) as database:
        audited = {action for (action,) in database.execute("SELECT action FROM audit")}
    assert {"sample-request", "sample-answer", "sample-download"} <= audited
    fleet.require_alive()
    agent.service.stop()  # its open window is closed: what would leave of it, and what stays
    (leaves,) = agent.query("SELECT body FROM outbox WHERE kind = 'window' ORDER BY sequence DESC LIMIT 1")
    body = decode_body(leaves[0])
    assert isinstance(body, Window)
    assert body.window.withheld == Withheld(mechanism="suppressed", parameter=5.0)
    told = [each for counts in body.window.signals.values() for each in (*counts.counts, counts.withheld)]
    (whole,) = agent.query("SELECT rows, moved_most FROM windows ORDER BY id DESC LIMIT 1")
    assert whole[0] == body.window.rows > 0
    assert body.window.verdict.moved_most == ()
    assert all(each == 0 or each >= 5 for counts in body.window.signals.values() for each in counts.counts)
    assert sum(told) > 0
    start(agent)
    wait_for("it to be back", lambda: fleet.online() == {"camera-1", "camera-2"}, seconds=30)


def test_a_revoked_device_is_not_heard_and_then_not_let_in(fleet: MosquittoFleet) -> None:
    """The last test of this fleet: camera-2 is gone for good, and goes on serving what it has."""
    crl = str(fleet.broker.pki / "revoked.pem")
    hub = ("--hub", fleet.url, "--token-file", str(fleet.token_file("olga")))
    words = ("revoke", "camera-2", "--reason", "stolen", "--crl", crl)
    run("edgeward-hub", "devices", *words, *hub)
    thief = fleet.agents[1]
    thief.edgeward("hold", "--reason", "nobody hears this")
    wait_for(
        "the hub to refuse what it sends", lambda: fleet.bridge()["refused"].get("revoked-device"), seconds=30
    )
    assert fleet.online() == {"camera-1"}
    thief.service.stop()
    fleet.broker.reload()
    files = IdentityFiles.within(thief.folder / "state" / "identity").tls()
    wait_for("the broker to refuse it", lambda: not _lets_in(Peer(fleet.broker.port, files, "x")), seconds=20)
    start(thief)
    wait_for("it to serve all the same", lambda: answered(thief) is not None, seconds=30)
    fleet.agents[0].edgeward("sync")
    assert fleet.online() == {"camera-1"}


def _lets_in(peer: Peer) -> bool:
    try:
        return peer.gets_in()
    finally:
        peer.close()


def _newer(before: dict[str, dict[str, Any]], fleet: MosquittoFleet) -> dict[str, dict[str, Any]] | None:
    after = fleet.devices()
    return after if all(after[name]["time"] > report["time"] for name, report in before.items()) else None
