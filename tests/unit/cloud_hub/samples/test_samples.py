"""The hub's side of samples: who may ask, what is taken, who may look, and when it is gone."""

from collections.abc import Callable
from typing import Any, cast

import httpx
import msgspec
import pytest
from sqlalchemy.orm import Session

from agent.protocol.codec import encode_json
from agent.protocol.envelope import SAMPLE_REQUEST_TYPE, pae
from agent.protocol.samples import SampleRequest, SampleTensor, open_sample_request
from agent.protocol.state import Presence
from agent.protocol.telemetry import Sample, SampleAnswer
from agent.protocol.topics import Channel, topic
from cloud_hub.audit.service import newest
from cloud_hub.bridge.bridge import Bridge
from cloud_hub.hub import Hub
from cloud_hub.mqtt import Connected, Message, MqttLink
from cloud_hub.samples import keeping
from cloud_hub.samples.models import SampleOffer
from cloud_hub.samples.service import OfferedRequest, get_request, open_offers, take_answer
from cloud_hub.signing.keys import open_key
from cloud_hub.telemetry.bodies import encode_body
from cloud_hub.telemetry.models import TelemetryRecord
from tests.unit.cloud_hub.conftest import Clock, RecordingPublisher
from tests.unit.cloud_hub.hub_world import People

PATH = "/v1/samples/requests"
TENSOR = SampleTensor(name="x", datatype="UINT8", shape=(1, 2), data=b"\x01\x02")
SAMPLE = Sample(
    request="request-1",
    sample="0" * 32,
    model="digits",
    release=2,
    artifact="1" * 64,
    taken=1_700_000_000.0,
    why=("over-represented",),
    confidence=0.31,
    inputs=(TENSOR,),
    outputs=(TENSOR,),
)


def wish(clock: Clock, **changes: Any) -> SampleRequest:
    request = SampleRequest(
        id="request-1",
        model="digits",
        devices=("cam-1", "cam-2"),
        first_release=1,
        last_release=3,
        maximum=2,
        created=clock.now,
        expires=clock.now + 3600,
        purpose="night shots",
    )
    return msgspec.structs.replace(request, **changes)


def signed(people: People, request: SampleRequest, approver: str = "alice") -> dict[str, Any]:
    payload = encode_json(request)
    signature = open_key(people.keys / "approvers", approver).sign(pae(SAMPLE_REQUEST_TYPE, payload))
    offered = OfferedRequest(payload=payload, keyid=signature.keyid, sig=signature.signature)
    body: dict[str, Any] = msgspec.to_builtins(offered)
    return body


@pytest.fixture
def asked(hub: Hub, people: People, clock: Clock) -> Callable[..., httpx.Response]:
    """Enrols two devices; posts a request."""
    for device in ("cam-1", "cam-2"):
        people.enrol(device)

    def ask(who: str = "approver", approver: str = "alice", **changes: Any) -> httpx.Response:
        return people.call(who, "POST", PATH, json=signed(people, wish(clock, **changes), approver))

    return ask


def arrive(hub: Hub, device: str, *bodies: Sample | SampleAnswer, first: int = 1) -> None:
    """As ingest stores it, and then one tick."""

    def store(session: Any) -> None:
        for sequence, body in enumerate(bodies, first):
            kind = str(body.__struct_config__.tag)
            session.add(
                TelemetryRecord(
                    device=device,
                    epoch="e1",
                    sequence=sequence,
                    kind=kind,
                    received=hub.now(),
                    body=encode_body(body),
                )
            )

    hub.database.write(store)
    hub.keep_samples()


def answer(hub: Hub, *, accepted: bool = True, code: str = "accepted") -> SampleAnswer:
    digest = hub.database.read(lambda session: get_request(session, "request-1").digest)
    return SampleAnswer(
        time=1.0, request="request-1", digest=digest, accepted=accepted, code=code, text="2 leave", chosen=2
    )


def sample(name: str = "0" * 32, **changes: Any) -> Sample:
    return msgspec.structs.replace(SAMPLE, sample=name, **changes)


def actions(hub: Hub) -> list[str]:
    return [entry.action for entry in hub.database.read(lambda session: newest(session, 50))]


def test_a_request_is_signed_by_both_and_offered_until_it_is_answered(
    hub: Hub, asked: Callable[..., httpx.Response], clock: Clock
) -> None:
    response = asked()
    assert response.is_success, response.text
    assert response.json()["approver"] == "alice"
    assert isinstance(hub.publisher, RecordingPublisher)
    assert hub.publisher.offered == ["cam-1", "cam-2"]
    (envelope,) = hub.database.read(lambda session: open_offers(session, "cam-1", clock.now))
    assert open_sample_request(envelope) == wish(clock)
    keys = {each["keyid"] for each in msgspec.json.decode(envelope)["signatures"]}
    assert hub.director_signing.director.keyid in keys
    assert len(keys) == 2
    hub.publisher.offered.clear()
    hub.keep_samples()  # and again, minutes later, who has not answered
    assert hub.publisher.offered == ["cam-1", "cam-2"]
    arrive(hub, "cam-1", answer(hub))
    assert hub.database.read(lambda session: open_offers(session, "cam-1", clock.now)) == []
    assert len(hub.database.read(lambda session: open_offers(session, "cam-2", clock.now))) == 1
    clock.now += 3600
    assert hub.database.read(lambda session: open_offers(session, "cam-2", clock.now)) == []
    assert "sample-request" in actions(hub)
    assert "sample-answer" in actions(hub)


def test_a_request_that_devices_would_refuse_is_refused_here(asked: Callable[..., httpx.Response]) -> None:
    refusals: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"model": "faces"}, 409, "faces"),
        ({"devices": ("cam-9",)}, 404, "cam-9"),
        ({"expires": 1.0, "created": 0.5}, 400, "expired"),
        ({"maximum": 0}, 400, "maximum"),
        ({"last_release": 1, "first_release": 2}, 400, "before the first"),
        ({"purpose": "two\nlines"}, 400, "one line"),
    )
    for changes, status, said in refusals:
        response = asked(**changes)
        assert response.status_code == status, response.text
        assert said in response.json()["detail"]


def test_only_an_approver_with_a_key_of_the_model_asks(
    people: People, asked: Callable[..., httpx.Response], clock: Clock
) -> None:
    for role in ("viewer", "operator", "author", "auditor"):
        assert asked(who=role).status_code == 403
    offered = signed(people, wish(clock))
    offered["payload"] = signed(people, wish(clock, maximum=1000))["payload"]
    response = people.call("approver", "POST", PATH, json=offered)
    assert not response.is_success
    assert "does not hold" in response.json()["detail"]
    offered["keyid"] = "ab" * 32
    response = people.call("approver", "POST", PATH, json=offered)
    assert "not one of the approvers" in response.json()["detail"]


def test_an_id_is_used_once(asked: Callable[..., httpx.Response]) -> None:
    assert asked().is_success
    assert asked(maximum=1).status_code == 409


def test_samples_lie_behind_a_role_and_each_download_is_written_down(
    hub: Hub, people: People, asked: Callable[..., httpx.Response]
) -> None:
    assert asked().is_success
    arrive(hub, "cam-1", answer(hub), sample())
    for role in ("viewer", "operator", "auditor"):
        assert people.call(role, "GET", f"{PATH}/request-1/samples").status_code == 403
        path = f"{PATH}/request-1/samples/cam-1/{'0' * 32}"
        assert people.call(role, "GET", path).status_code == 403
    (info,) = people.ok("author", "GET", f"{PATH}/request-1/samples")
    assert (info["device"], info["sample"]) == ("cam-1", "0" * 32)
    response = people.call("author", "GET", f"{PATH}/request-1/samples/cam-1/{'0' * 32}")
    assert msgspec.json.decode(response.content, type=Sample) == sample()
    assert response.headers["cache-control"] == "no-store"
    (entry,) = [
        each
        for each in hub.database.read(lambda session: newest(session, 5))
        if each.action == "sample-download"
    ]
    assert (entry.actor, entry.subject) == ("the-author", "request-1")
    assert entry.details == {"device": "cam-1", "sample": "0" * 32}
    view = people.ok("viewer", "GET", f"{PATH}/request-1")
    assert view["devices"][0]["arrived"] == 1


def test_telemetry_keeps_no_copy_of_what_was_moved(hub: Hub, asked: Callable[..., httpx.Response]) -> None:
    assert asked().is_success
    arrive(hub, "cam-1", answer(hub), sample())
    rows = hub.database.read(
        lambda session: [(row.kind, row.body) for row in session.query(TelemetryRecord).all()]
    )
    assert rows == [("sample-answer", None), ("sample", None)]


def test_what_nobody_asked_for_is_let_go_and_told_once_a_day(
    hub: Hub, people: People, asked: Callable[..., httpx.Response]
) -> None:
    assert asked().is_success
    strange = (sample(request="request-9"), sample(model="faces"), sample(release=4))
    arrive(hub, "cam-1", answer(hub), *strange)
    arrive(hub, "cam-1", *strange, first=9)
    assert people.ok("author", "GET", f"{PATH}/request-1/samples") == []
    assert actions(hub).count("sample-unasked") == 1


def test_no_device_brings_more_than_it_was_asked_for_and_none_for_another(
    hub: Hub, people: People, asked: Callable[..., httpx.Response]
) -> None:
    assert asked(devices=("cam-1",)).is_success
    arrive(hub, "cam-1", *(sample(f"{number:032}") for number in range(4)))
    arrive(hub, "cam-1", sample(f"{0:032}"), first=7)
    arrive(hub, "cam-2", sample("f" * 32))
    found = people.ok("author", "GET", f"{PATH}/request-1/samples")
    assert [(each["device"], each["sample"]) for each in found] == [
        ("cam-1", f"{0:032}"),
        ("cam-1", f"{1:032}"),
    ]


def test_an_answer_to_other_bytes_is_none(
    hub: Hub, people: People, asked: Callable[..., httpx.Response]
) -> None:
    assert asked().is_success
    arrive(hub, "cam-1", msgspec.structs.replace(answer(hub), digest="f" * 64))
    view = people.ok("viewer", "GET", f"{PATH}/request-1")
    assert view["devices"][0]["answered"] is None


def test_samples_are_deleted_after_their_time_or_when_somebody_says_so(
    hub: Hub, people: People, asked: Callable[..., httpx.Response], clock: Clock
) -> None:
    assert asked().is_success
    arrive(hub, "cam-1", sample())
    assert people.call("viewer", "DELETE", f"{PATH}/request-1/samples").status_code == 403
    clock.now += 31 * 86_400
    hub.keep_samples()
    assert people.ok("author", "GET", f"{PATH}/request-1/samples") == []
    assert "sample-retention" in actions(hub)


def test_a_closed_request_takes_nothing_more(
    hub: Hub, people: People, asked: Callable[..., httpx.Response], clock: Clock
) -> None:
    assert asked().is_success
    arrive(hub, "cam-1", sample())
    assert people.ok("operator", "POST", f"{PATH}/request-1/close")["closed"] is not None
    arrive(hub, "cam-1", sample("1" * 32), first=2)
    assert len(people.ok("author", "GET", f"{PATH}/request-1/samples")) == 1
    assert hub.database.read(lambda session: open_offers(session, "cam-2", clock.now)) == []
    assert people.ok("approver", "DELETE", f"{PATH}/request-1/samples") == {"samples": 1}
    assert people.ok("author", "GET", f"{PATH}/request-1/samples") == []


class Line:
    """Where the bridge publishes."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, to: str, payload: bytes, *, retain: bool = False) -> None:
        assert not (retain and to.endswith("/samples"))
        self.sent.append((to, payload))

    def offered(self) -> list[str]:
        """Devices that were offered something since the last look."""
        found = [to.split("/")[2] for to, _ in self.sent if to.endswith("/samples")]
        self.sent.clear()
        return found


def test_a_device_is_offered_what_it_has_not_answered_whenever_it_or_the_hub_connects(
    hub: Hub, people: People, asked: Callable[..., httpx.Response]
) -> None:
    assert asked().is_success
    line = Line()
    bridge = Bridge(hub, cast(MqttLink, line))
    online = encode_json(Presence(online=True, boot="b1"))
    bridge.handle(Connected())
    assert line.offered() == ["cam-1", "cam-2"]
    bridge.handle(Message(topic("cam-1", Channel.PRESENCE), online))
    assert line.offered() == ["cam-1"]
    bridge.handle(Message(topic("cam-1", Channel.PRESENCE), encode_json(Presence(online=False, boot="b1"))))
    assert line.offered() == []
    arrive(hub, "cam-1", answer(hub, accepted=False, code="not-allowed"))
    bridge.handle(Message(topic("cam-1", Channel.PRESENCE), online))
    assert line.offered() == []
    bridge.handle(Connected())
    assert line.offered() == ["cam-2"]
    people.ok("operator", "POST", "/v1/devices/cam-2/revoke", json={"reason": "stolen"})
    bridge.handle(Connected())
    assert line.offered() == []


def test_words_that_a_database_can_not_hold_are_escaped_and_one_record_alone_is_let_go(
    hub: Hub, asked: Callable[..., httpx.Response], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked()
    arrive(hub, "cam-1", msgspec.structs.replace(answer(hub), text="no\x00\n" + "x" * 9_000))
    offer = hub.database.read(lambda session: session.get(SampleOffer, ("request-1", "cam-1")))
    assert offer is not None
    assert offer.text is not None
    assert (offer.text[:9], len(offer.text)) == ("no\\x00\\nx", 1_000)

    def stumbles(session: Session, device: str, found: SampleAnswer, now: float) -> bool:
        take_answer(session, device, found, now)
        if device == "cam-1":
            raise OverflowError("a number of it")
        return True

    monkeypatch.setattr(keeping, "take_answer", stumbles)
    clock.now += 1
    bodies = {device: msgspec.structs.replace(answer(hub), text="again") for device in ("cam-1", "cam-2")}
    for device, body in bodies.items():
        arrive(hub, device, body, first=2)
    texts = hub.database.read(
        lambda session: [
            found.text if (found := session.get(SampleOffer, ("request-1", device))) else None
            for device in bodies
        ]
    )
    assert texts == [offer.text, "again"]
