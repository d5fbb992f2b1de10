"""A device whose identity is revoked: what the hub does with it from then on."""

from datetime import UTC, datetime

import pytest
from cryptography import x509

from agent.protocol.codec import encode_json, encode_msgpack
from agent.protocol.ids import Digest
from agent.protocol.state import Presence
from agent.protocol.topics import Channel, topic
from agent.protocol.transfer import BlockRequest, MetadataSource
from cloud_hub.bridge.bridge import Bridge
from cloud_hub.downloads.locations import Claim
from cloud_hub.errors import ForbiddenError
from cloud_hub.hub import Hub
from cloud_hub.mqtt import Message, MqttLink
from cloud_hub.rollouts.documents import desired_payload
from tests.unit.cloud_hub.hub_world import People, csr, report, report_bytes
from tests.unit.cloud_hub.sample_release import release_files

REASON = "it was stolen from the yard"


@pytest.fixture
def fleet(people: People) -> dict[str, str]:
    """Two devices with release 1 assigned: name → certificate."""
    people.publish(release_files())
    return {name: people.enrol(name)["certificate"] for name in ("cam-1", "cam-2")}


def revoke(people: People, name: str = "cam-1") -> None:
    people.ok("operator", "POST", f"/v1/devices/{name}/revoke", json={"reason": REASON})


def serial(certificate: str) -> int:
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def listed(people: People) -> set[int]:
    pem = people.call("viewer", "GET", "/v1/devices/revocations").content
    revoked = x509.load_pem_x509_crl(pem)
    assert revoked.next_update_utc is not None
    assert (revoked.next_update_utc - datetime.now(UTC)).days > 3000
    return {entry.serial_number for entry in revoked}


def test_its_certificate_is_on_the_signed_list(people: People, fleet: dict[str, str], hub: Hub) -> None:
    assert listed(people) == set()
    revoke(people)
    assert listed(people) == {serial(fleet["cam-1"])}
    pem = (hub.paths.authority / "revoked.pem").read_bytes()
    authority = x509.load_pem_x509_certificate((hub.paths.authority / "ca.pem").read_bytes())
    assert x509.load_pem_x509_crl(pem).is_signature_valid(authority.public_key())  # type: ignore[arg-type]


def test_what_it_sends_is_not_heard_and_nothing_is_answered(
    people: People, fleet: dict[str, str], hub: Hub
) -> None:
    revoke(people)
    bridge = Bridge(hub, MqttLink(hub.config.broker, "test", hub.counters.count))
    request = BlockRequest(id=1, source=MetadataSource(name="timestamp.json"), offset=0, length=1)
    messages = {
        Channel.REPORTED: report_bytes(report("cam-1")),
        Channel.PRESENCE: encode_json(Presence(online=True, boot="boot-2")),
        Channel.REQUEST: encode_msgpack(request),
    }
    for channel, payload in messages.items():
        bridge.handle(Message(topic("cam-1", channel), payload))
    assert hub.counters.report(connected=True).refused == {"revoked-device": 3}
    device = people.ok("viewer", "GET", "/v1/devices/cam-1")["device"]
    assert (device["online"], device["reported"]) == (False, None)
    assert device["revoked_reason"] == REASON


def test_nothing_is_signed_for_it_any_more_and_a_rollout_does_not_wait_for_it(
    people: People, fleet: dict[str, str], hub: Hub
) -> None:
    wish = {"model": "digits", "release": 1, "allowed_failures": 1}
    rollout = people.ok("operator", "POST", "/v1/rollouts", json=wish)["id"]
    before = people.ok("viewer", "GET", "/v1/devices/cam-1")["desired_version"]
    revoke(people)
    hub.tick()
    state = people.ok("viewer", "GET", f"/v1/rollouts/{rollout}")["state"]
    (gone,) = [device for device in state["devices"] if device["device"] == "cam-1"]
    assert (gone["outcome"], gone["reason"]) == ("failed", f"its identity was revoked: {REASON}")
    people.ok("operator", "POST", f"/v1/rollouts/{rollout}/abort")
    again = people.ok("operator", "POST", "/v1/rollouts", json=wish)["state"]
    assert [device["device"] for device in again["devices"]] == ["cam-2"]
    refused = people.call("operator", "POST", "/v1/rollouts", json=wish | {"devices": ["cam-1"]})
    assert refused.status_code in (400, 409)
    assert people.ok("viewer", "GET", "/v1/devices/cam-1")["desired_version"] == before
    assert hub.database.read(lambda session: desired_payload(session, "cam-1")) == b""


def test_its_signed_addresses_and_its_tokens_are_worth_nothing(
    people: People, fleet: dict[str, str], hub: Hub
) -> None:
    token = people.ok("operator", "POST", "/v1/enrolment-tokens", json={"device": "cam-1"})["token"]
    digest = Digest("0" * 64)
    expires = int(hub.now()) + 60
    signature = hub.downloads._key._signature(digest, "cam-1", expires)
    claim = Claim(device="cam-1", expires=expires, signature=signature)
    hub.downloads.check(digest, claim)
    revoke(people)
    body = {"token": token, "device": "cam-1", "hardware_class": "x86-64", "csr": csr("cam-1")}
    refused = people.http.post("/v1/enrol", json=body)
    assert refused.status_code == 403
    assert "expired" in refused.text
    with pytest.raises(ForbiddenError):
        hub.downloads.check(digest, claim)


def test_it_can_be_enrolled_again_with_a_token_made_for_it(people: People, fleet: dict[str, str]) -> None:
    revoke(people)
    again = people.enrol("cam-1")["certificate"]
    assert listed(people) == {serial(fleet["cam-1"])}
    assert people.ok("viewer", "GET", "/v1/devices/cam-1")["device"]["revoked"] is None
    third = people.enrol("cam-1")["certificate"]
    assert listed(people) == {serial(fleet["cam-1"]), serial(again)}
    assert serial(third) not in listed(people)


def test_it_is_audited_and_shown(people: People, fleet: dict[str, str]) -> None:
    revoke(people)
    lines = people.call("auditor", "GET", "/v1/audit/export").text
    assert "revoke-device" in lines
    assert REASON in lines
    findings = people.ok("viewer", "GET", "/v1/fleet")["findings"]
    assert f"Its identity was revoked: {REASON}." in [finding["what"] for finding in findings]


@pytest.mark.parametrize(
    ("who", "path", "body", "status"),
    [
        ("viewer", "cam-1", {"reason": REASON}, 403),
        ("operator", "cam-9", {"reason": REASON}, 404),
        ("operator", "cam-1", {"reason": ""}, 400),
        ("operator", "cam-1", {}, 400),
    ],
)
def test_who_may_not_or_says_not_why(
    people: People, fleet: dict[str, str], who: str, path: str, body: dict[str, str], status: int
) -> None:
    assert people.call(who, "POST", f"/v1/devices/{path}/revoke", json=body).status_code == status


def test_twice_is_said(people: People, fleet: dict[str, str]) -> None:
    revoke(people)
    again = people.call("operator", "POST", "/v1/devices/cam-1/revoke", json={"reason": "again"})
    assert again.status_code == 409
    assert REASON in again.text
