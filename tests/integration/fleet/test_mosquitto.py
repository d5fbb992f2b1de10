"""Identity end to end: hub, Mosquitto with our files, and two devices, each known by its certificate."""

import contextlib
import shutil
import signal
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.protocol.codec import encode_msgpack
from agent.protocol.topics import FROM_DEVICE, FROM_HUB, Channel, topic
from agent.protocol.transfer import BlockRequest, MetadataSource
from agent.transport.identity_files import IdentityFiles
from tests.acceptance.processes import run, wait_for
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
