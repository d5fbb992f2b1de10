"""Inputs that a device keeps: asked for by who may not ask, twice, for somebody else, too late, or against its owner's will."""

import itertools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from agent.protocol.codec import encode_json
from agent.protocol.control import ControlRequest, SamplesResult
from agent.protocol.envelope import BUNDLE_TYPE, SAMPLE_REQUEST_TYPE, EnvelopeSignature, pae, seal_all
from agent.protocol.samples import SampleRequest
from agent.protocol.telemetry import Body, Event, Sample, SampleAnswer
from agent.protocol.topics import Channel
from tests.acceptance.processes import wait_for
from tests.fault.attacks import forging
from tests.fault.attacks.device import SECONDS, AttackedDevice
from tests.fault.attacks.hostile_hub import Heard, HostileHub
from tests.fault.attacks.releases import ROW
from tests.support.mosquitto import Broker

NUMBERS = itertools.count(1)


def wanted(hub: HostileHub, device: AttackedDevice, **changes: Any) -> SampleRequest:
    now = hub.now.timestamp()
    request = SampleRequest(
        id=f"request-{next(NUMBERS)}",
        model="digits",
        devices=(device.name,),
        first_release=1,
        last_release=10_000,
        maximum=5,
        created=now,
        expires=now + 3600,
        purpose="an attack",
    )
    return msgspec.structs.replace(request, **changes)


def sealed(
    request: SampleRequest,
    *signers: CryptoSigner,
    kind: str = SAMPLE_REQUEST_TYPE,
    instead: SampleRequest | None = None,
) -> bytes:
    """``request`` as signed; ``instead``: what is put in its place afterwards."""
    payload = encode_json(request)
    made = [signer.sign(pae(kind, payload)) for signer in signers]
    signatures = tuple(
        EnvelopeSignature(keyid=each.keyid, sig=bytes.fromhex(each.signature)) for each in made
    )
    return seal_all(kind, encode_json(instead or request), signatures, limit=2**20)


def honest(hub: HostileHub, request: SampleRequest) -> bytes:
    return sealed(request, hub.keys.director, hub.keys.approvers["ada"])


def send(hub: HostileHub, device: AttackedDevice, envelope: bytes) -> None:
    hub.publish(device.name, Channel.SAMPLES, envelope)


def records(hub: HostileHub, device: AttackedDevice, request: str) -> list[Sample | SampleAnswer]:
    """What the hub has heard of one request."""
    heard: list[Body] = list(hub.heard.setdefault(device.name, Heard()).records)
    return [each for each in heard if isinstance(each, Sample | SampleAnswer) and each.request == request]


def answered(hub: HostileHub, device: AttackedDevice, request: str) -> SampleAnswer:
    def answer() -> SampleAnswer | None:
        device.service.require_alive()
        found = [each for each in records(hub, device, request) if isinstance(each, SampleAnswer)]
        return found[-1] if found else None

    return wait_for(f"an answer to {request}", answer, seconds=SECONDS, every=0.1)


def refused(hub: HostileHub, device: AttackedDevice, *offers: tuple[SampleRequest, bytes]) -> list[str]:
    """Send them; why each was refused. Nothing has left by them, and the device has written each down."""
    before = device.errors().get("sample-request-refused", 0)
    for _, envelope in offers:
        send(hub, device, envelope)
    answers = [answered(hub, device, request.id) for request, _ in offers]
    assert not any(answer.accepted for answer in answers)
    assert device.counts("sample-request-refused", before + len(offers))
    departures = {each.request: each for each in shown(device).departures}
    for answer in answers:
        assert device.errors()[f"sample-request-{answer.code}"] >= 1
        assert not any(isinstance(each, Sample) for each in records(hub, device, answer.request))
        written = departures[answer.request]
        assert (written.accepted, written.code, written.samples) == (False, answer.code, 0)
    return [answer.code for answer in answers]


def shown(device: AttackedDevice) -> SamplesResult:
    result = device.ask(ControlRequest(method="samples-show"))
    assert isinstance(result, SamplesResult)
    return result


@pytest.fixture
def keeping(device: AttackedDevice) -> AttackedDevice:
    """It has kept what it was asked: that lies outside the release's reference."""
    device.answer()
    wait_for("a sample to be kept", lambda: shown(device).count, seconds=SECONDS, every=0.1)
    return device


def test_a_request_that_is_played_again_brings_nothing_twice(
    hub: HostileHub, keeping: AttackedDevice
) -> None:
    request = wanted(hub, keeping)
    envelope = honest(hub, request)
    send(hub, keeping, envelope)
    answer = answered(hub, keeping, request.id)
    assert answer.accepted, answer
    assert answer.chosen == 1

    wait_for(
        "the sample to arrive",
        lambda: shown(keeping).departures[0].sent == 1,
        seconds=SECONDS,
        every=0.1,
    )
    for _ in range(3):
        send(hub, keeping, envelope)
    keeping.commits(1)
    brought = [each for each in records(hub, keeping, request.id) if isinstance(each, Sample)]
    assert len(brought) == 1
    assert brought[0].inputs[0].data == struct.pack("<4f", *ROW)
    departure = shown(keeping).departures[0]
    assert (departure.request, departure.samples, departure.sent) == (request.id, 1, 1)
    assert departure.approver == hub.keys.approvers["ada"].public_key.keyid
    assert departure.purpose == "an attack"
    events = [each for each in hub.heard[keeping.name].records if isinstance(each, Event)]
    assert {"samples-requested", "samples-left"} <= {each.kind for each in events}


def test_another_request_under_an_id_that_was_used(hub: HostileHub, keeping: AttackedDevice) -> None:
    request = wanted(hub, keeping, maximum=1)
    send(hub, keeping, honest(hub, request))
    assert answered(hub, keeping, request.id).accepted
    before = keeping.errors().get("sample-request-replayed", 0)
    send(hub, keeping, honest(hub, msgspec.structs.replace(request, maximum=1000)))
    assert keeping.counts("sample-request-replayed", before + 1)


def test_requests_that_no_approver_has_signed(hub: HostileHub, keeping: AttackedDevice) -> None:
    keys = hub.keys
    cases = (
        ((keys.director,), "not-an-approver"),
        ((keys.director, keys.online), "not-an-approver"),
        ((keys.director, CryptoSigner.generate_ed25519()), "not-an-approver"),
        ((keys.approvers["ada"],), "bad-signature"),
        ((CryptoSigner.generate_ed25519(), keys.approvers["ada"]), "bad-signature"),
    )
    requests = [wanted(hub, keeping) for _ in cases]
    offers = [
        (request, sealed(request, *signers)) for request, (signers, _) in zip(requests, cases, strict=True)
    ]
    assert refused(hub, keeping, *offers) == [code for _, code in cases]


def test_an_approver_of_another_model_and_one_who_was_revoked(
    hub: HostileHub, keeping: AttackedDevice
) -> None:
    zoe = CryptoSigner.generate_ed25519()

    def hire(signed: Targets) -> None:
        signed.add_key(zoe.public_key, "faces")

    def dismiss(signed: Targets) -> None:
        signed.revoke_key(zoe.public_key.keyid, "faces")

    forging.publish_targets(hub, hire)
    request = wanted(hub, keeping)
    assert refused(hub, keeping, (request, sealed(request, hub.keys.director, zoe))) == ["not-an-approver"]
    request = wanted(hub, keeping, model="faces")
    send(hub, keeping, sealed(request, hub.keys.director, zoe))
    assert answered(hub, keeping, request.id).accepted
    forging.publish_targets(hub, dismiss)
    request = wanted(hub, keeping, model="faces")
    assert refused(hub, keeping, (request, sealed(request, hub.keys.director, zoe))) == ["not-an-approver"]


def test_requests_for_others_out_of_their_time_or_changed_after_they_were_signed(
    hub: HostileHub, keeping: AttackedDevice
) -> None:
    now, signers = hub.now.timestamp(), (hub.keys.director, hub.keys.approvers["ada"])
    foreign = wanted(hub, keeping, devices=("cam-2",))
    late = wanted(hub, keeping, created=now - 7200, expires=now - 3600)
    changed = wanted(hub, keeping, maximum=1)
    other = wanted(hub, keeping)
    relabelled = sealed(other, *signers, kind=BUNDLE_TYPE).replace(
        BUNDLE_TYPE.encode(), SAMPLE_REQUEST_TYPE.encode()
    )
    assert refused(
        hub,
        keeping,
        (foreign, honest(hub, foreign)),
        (late, honest(hub, late)),
        (changed, sealed(changed, *signers, instead=msgspec.structs.replace(changed, maximum=1000))),
        (other, relabelled),
    ) == ["wrong-device", "request-expired", "bad-signature", "bad-signature"]


def test_noise(hub: HostileHub, keeping: AttackedDevice) -> None:
    before = keeping.errors()
    for payload in (b"", b"{}", b"[" * 9_000, b"\xff" * 100, b"x" * 200_000):
        send(hub, keeping, payload)
    assert keeping.counts("malformed-message", before.get("malformed-message", 0) + 4)
    assert keeping.counts("oversized-message", before.get("oversized-message", 0) + 1)


@pytest.mark.soak
def test_a_flood_of_forged_requests(hub: HostileHub, fresh_device: Callable[[str], AttackedDevice]) -> None:
    device, forged = fresh_device("cam-8"), CryptoSigner.generate_ed25519()
    wait_for("the line", lambda: device.status().connected, seconds=SECONDS, every=0.05)
    for number in range(60):
        send(hub, device, sealed(wanted(hub, device, id=f"flood-{number}"), forged))
    assert device.counts("sample-request-queue-full", 1)
    assert device.counts("sample-request-bad-signature", 1)
    device.commits(1)
    assert device.answer() == 1


@pytest.fixture
def unwilling(
    hub: HostileHub, broker: Broker, authority: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AttackedDevice]:
    """A device whose owner has allowed nothing."""
    device = AttackedDevice(
        tmp_path_factory.mktemp("cam-7"), "cam-7", hub, authority, broker.port, samples=False
    )
    device.start()
    wait_for("the line", lambda: device.status().connected, seconds=SECONDS, every=0.05)
    yield device
    device.close()


def test_a_good_request_against_the_owners_will(hub: HostileHub, unwilling: AttackedDevice) -> None:
    request = wanted(hub, unwilling)
    assert refused(hub, unwilling, (request, honest(hub, request))) == ["not-allowed"]
    assert not (unwilling.config.state / "samples").exists()
