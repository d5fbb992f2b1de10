"""Real devices without any network: enrolled on the bench, updated by a stick, heard of by a receipt."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.protocol.bundle import PREFIX_BYTES, open_bundle
from agent.protocol.state import Phase
from tests.acceptance.processes import StepFailedError, wait_for
from tests.acceptance.world import MODEL
from tests.integration.bundles.places import (
    SECONDS,
    Office,
    ended,
    hand_in,
    offered,
    serve_until,
    technician,
)
from tests.support.fleet import answered, deployment, start

CLERK, KILLED, PICKY = "till-1", "till-2", "till-3"


@pytest.fixture(scope="module")
def office(first_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    made = Office(tmp_path_factory.mktemp("bundles"))
    try:
        made.make_hub()
        made.publish(first_release, 1)
        made.bench(CLERK, KILLED, PICKY)
        made.start_rollout(1, allowed_failures=9)
        yield made
    finally:
        made.stop()


def test_a_stick_installs_and_a_receipt_tells_the_hub_once(office: Office) -> None:
    agent, receipts = office.agents[0], office.folder / "receipts"
    receipts.mkdir()
    stick = office.export("--rollout", "1", "--release", f"{MODEL}@1")
    assert "every signature holds" in office.office("verify", str(stick))
    shown = technician(agent, "show", str(stick))
    assert all(name in shown for name in (CLERK, KILLED, PICKY, "every byte is there"))

    said = technician(agent, "install", str(stick), "--receipt", str(receipts))
    assert "the stick may be removed" in said
    assert "serves; on probation" in said
    stick.unlink()
    assert answered(agent) is not None
    (receipt,) = receipts.iterdir()
    assert "probation" in office.bring(receipt)
    assert office.outcome(1, CLERK) is None

    serve_until(agent, Phase.COMMITTED)
    assert "not everything" not in technician(agent, "receipt", "--wait", "-o", str(receipts))
    assert f"{MODEL} 1: committed" in office.bring(receipt)
    assert office.outcome(1, CLERK) == "committed"
    assert "imported before" in office.bring(receipt)
    _and_later_the_network_comes(office)


def _and_later_the_network_comes(office: Office) -> None:
    agent = office.agents[0]
    agent.service.stop()
    office.reach(agent, office.broker_port)
    start(agent)
    wait_for("the hub to hold its records", lambda: office.held(agent), seconds=30)
    assert office.outcome(1, CLERK) == "committed"
    (texts,) = office.outcomes(agent).values()
    assert texts == ["release 1 committed"]
    state = agent.edgeward("status")["state"]
    assert state["refusal"] is None
    wait_for("the hub to be told", lambda: office.devices().get(CLERK), seconds=10)
    assert office.devices()[CLERK]["deployments"][0]["phase"] == "committed"


def test_what_was_handed_in_outlives_the_stick_a_hold_and_a_kill(office: Office) -> None:
    agent = office.agents[1]
    agent.edgeward("hold", "--reason", "the shop is full")
    stick = office.export("--device", KILLED, name="till-2")
    said = technician(agent, "install", str(stick))
    assert "waits: a technician holds this device: the shop is full" in said
    stick.unlink()
    agent.service.kill()
    start(agent)
    assert deployment(agent) is None
    agent.edgeward("resume")
    serve_until(agent, Phase.PROBATION)
    agent.service.kill()
    start(agent)
    report = wait_for("it to end", lambda: ended(agent), seconds=SECONDS, every=0.1)
    assert report.reason is not None
    assert report.reason.code == "interrupted"
    assert "rolled back" in technician(agent, "status")


def test_what_is_not_for_this_device_is_refused_and_leaves_no_trace(office: Office, tmp_path: Path) -> None:
    agent = office.agents[2]
    stick = office.export("--device", PICKY, name="till-3")
    newer = stick.read_bytes()
    bad = tmp_path / "bad.edgeward"

    def refused(data: bytes) -> str:
        bad.write_bytes(data)
        report = hand_in(agent, bad)
        assert (report.stage, report.deployments) == ("refused", ())
        assert report.refusal is not None
        return f"{report.refusal.code}: {report.refusal.text}"

    other = office.export("--device", CLERK, "--complete", name="other").read_bytes()
    assert refused(other) == f"wrong-device: it is for {CLERK}; this device is {PICKY}"
    assert refused(_with_artifact_damaged(newer)).startswith("damaged-bundle: models/digits/1/")
    assert refused(_with_another_signature(newer)).startswith("bad-signature: ")
    assert deployment(agent) is None

    office.client("olga").post("/v1/rollouts/1/abort")
    office.start_rollout(1, devices=[PICKY])
    newest = office.export("--device", PICKY, name="till-3")
    assert hand_in(agent, newest).stage == "taken"
    assert "older than what this device has seen" in refused(newer)
    assert "older than what this device has seen" in technician(agent, "status")
    technician(agent, "receipt", "-o", str(tmp_path / "refused.receipt"))
    assert "the bundle was refused: it is older" in office.bring(tmp_path / "refused.receipt")
    serve_until(agent, Phase.COMMITTED)


def test_what_is_no_bundle_is_refused_at_once(office: Office, tmp_path: Path) -> None:
    agent = office.agents[2]
    newer = office.export("--device", PICKY, "--complete", name="till-3").read_bytes()
    before = offered(agent)

    def said(path: Path) -> str:
        with pytest.raises(StepFailedError) as refusal:
            technician(agent, "install", str(path))
        return str(refusal.value)

    whole = tmp_path / "x.edgeward"
    for cut in (1, PREFIX_BYTES, 1000, len(newer) // 2, len(newer) - 1):
        whole.write_bytes(newer[:cut])
        assert "copy the whole bundle again" in said(whole), cut
    whole.write_bytes(newer + b"!")
    assert "1 more than its index says" in said(whole)
    whole.write_bytes(b"PK\x03\x04")
    assert "not an Edgeward bundle" in said(whole)
    whole.write_bytes(newer[: PREFIX_BYTES - 4] + (1 << 31).to_bytes(4, "big") + newer[PREFIX_BYTES:])
    assert "its index is said to have" in said(whole)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        assert "not a file" in said(path)
        with pytest.raises(Exception, match="not a file"):
            hand_in(agent, os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    assert "No such file" in said(tmp_path / "nothing")
    assert offered(agent) == before
    assert agent.edgeward("status")["state"]["errors"]["bundle-refused"] >= 9


def _with_artifact_damaged(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _with_another_signature(data: bytes) -> bytes:
    """Of its timestamp: one hexadecimal digit."""
    bundle = open_bundle(lambda offset, length: data[offset : offset + length], len(data))
    _file, start = bundle.places["metadata", "timestamp.json"]
    place = data.index(b'"sig"', start) + 10
    digit = b"0" if data[place : place + 1] != b"0" else b"1"
    return data[:place] + digit + data[place + 1 :]
