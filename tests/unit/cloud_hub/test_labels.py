"""Labels for devices: kept until acknowledged, once however often they are posted; and what they say of a model."""

from collections.abc import Callable
from typing import Any

import pytest

from agent.protocol.batch_codec import decode_envelope, encode_batch
from agent.protocol.codec import decode_json, encode_json
from agent.protocol.labels import LabelAnswer, LabelDelivery, LabelReceipt
from agent.protocol.telemetry import Accuracy, Body, Record, TelemetryBatch
from agent.protocol.topics import Channel, topic
from cloud_hub.bridge.bridge import Bridge
from cloud_hub.hub import OFFER_SECONDS, Hub
from cloud_hub.ingest.store import store_batches
from cloud_hub.labels import service
from cloud_hub.mqtt import Connected, Message
from tests.unit.cloud_hub.conftest import Clock
from tests.unit.cloud_hub.hub_world import People

PATH = "/v1/devices/camera-1/labels"
DAY = 86_400.0


def wish(*requests: str, label: str = "3") -> dict[str, Any]:
    labels = [{"request": request, "label": label, "origin": "person"} for request in requests]
    return {"model": "digits", "labels": labels}


class Link:
    """The broker's end of the bridge: what was published, and a queue that nobody fills."""

    connected = True

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    def publish(self, to: str, payload: bytes, **_: Any) -> None:
        self.published.append((to, payload))

    def deliveries(self) -> list[LabelDelivery]:
        """Of camera-1, since last asked."""
        found, self.published = self.published, []
        return [
            decode_json(payload, LabelDelivery)
            for to, payload in found
            if to == topic("camera-1", Channel.LABELS)
        ]


@pytest.fixture
def device(people: People) -> str:
    people.enrol("camera-1")
    return "camera-1"


@pytest.fixture
def link(hub: Hub, device: str) -> Link:
    link = Link()
    bridge = Bridge(hub, link)  # type: ignore[arg-type]  # a link without a broker
    hub.publisher = bridge
    link.bridge = bridge  # type: ignore[attr-defined]
    return link


def acknowledge(link: Link, receipt: LabelReceipt, device: str = "camera-1") -> None:
    link.bridge.handle(Message(topic(device, Channel.LABELS_ACK), encode_json(receipt)))  # type: ignore[attr-defined]


def test_labels_are_sent_until_the_device_has_acknowledged_them(
    people: People, hub: Hub, clock: Clock, link: Link
) -> None:
    posted = people.ok("operator", "POST", PATH, json=wish("r-1", "r-2"))
    (delivery,) = link.deliveries()
    assert (delivery.id, delivery.model) == (posted["id"], "digits")
    assert [(label.request, label.time) for label in delivery.labels] == [
        ("r-1", clock.now),
        ("r-2", clock.now),
    ]
    hub.keep_labels()
    assert link.deliveries() == [delivery]
    clock.now += OFFER_SECONDS
    hub.keep_labels()
    assert link.deliveries() == [delivery]
    link.bridge.handle(Connected())  # type: ignore[attr-defined]
    assert link.deliveries() == [delivery]
    refused = LabelAnswer(request="r-2", outcome="unknown", text="never asked here")
    acknowledge(link, LabelReceipt(id=delivery.id, outcomes={"joined": 1, "unknown": 1}, refused=(refused,)))
    clock.now += OFFER_SECONDS
    hub.keep_labels()
    assert link.deliveries() == []
    (shown,) = people.ok("viewer", "GET", PATH)
    assert shown["outcomes"] == {"joined": 1, "unknown": 1}
    assert shown["refused"][0]["text"] == "never asked here"
    assert shown["settled"] is not None


def test_the_same_labels_posted_twice_are_one_delivery_also_after_it_was_joined(
    people: People, hub: Hub, clock: Clock, link: Link
) -> None:
    first = people.ok("operator", "POST", PATH, json=wish("r-1"))
    clock.now += 5
    assert people.ok("author", "POST", PATH, json=wish("r-1"))["id"] == first["id"]
    acknowledge(link, LabelReceipt(id=first["id"], outcomes={"joined": 1}))
    link.deliveries()
    again = people.ok("operator", "POST", PATH, json=wish("r-1"))
    assert again["outcomes"] == {"joined": 1}
    assert link.deliveries() == []
    assert people.ok("operator", "POST", PATH, json=wish("r-1", label="4"))["id"] != first["id"]
    actions = [entry["action"] for entry in people.ok("auditor", "GET", "/v1/audit")]
    assert actions.count("send-labels") == 2


def test_labels_that_came_to_nothing_are_sent_anew_when_they_are_posted_again(
    people: People, hub: Hub, clock: Clock, link: Link
) -> None:
    first = people.ok("operator", "POST", PATH, json=wish("r-1"))
    assert [each.id for each in link.deliveries()] == [first["id"]]
    acknowledge(link, LabelReceipt(id=first["id"], outcomes={}, problem="this device has no model digits"))
    assert people.ok("viewer", "GET", PATH)[0]["problem"] == "this device has no model digits"
    for _ in range(2):  # refused, then given up
        clock.now += 60
        again = people.ok("operator", "POST", PATH, json=wish("r-1"))
        assert (again["settled"], again["problem"], again["created"]) == (None, None, clock.now)
        assert len(link.deliveries()) == 1
        clock.now += service.GIVE_UP_DAYS * DAY + 1
        hub.keep_labels()
        assert people.ok("viewer", "GET", PATH)[0]["settled"] is not None


def test_only_the_device_itself_can_acknowledge(people: People, hub: Hub, link: Link) -> None:
    people.enrol("camera-2")
    posted = people.ok("operator", "POST", PATH, json=wish("r-1"))
    link.deliveries()
    receipt = LabelReceipt(id=posted["id"], outcomes={"joined": 1})
    acknowledge(link, receipt, "camera-2")
    acknowledge(link, receipt, "nobody")
    assert people.ok("viewer", "GET", PATH)[0]["settled"] is None
    assert hub.counters.report(connected=True).refused == {"unknown-device": 1}


def test_a_device_is_offered_a_few_at_a_time_the_oldest_first(
    people: People, clock: Clock, link: Link
) -> None:
    ids = []
    for number in range(service.IN_FLIGHT + 2):
        clock.now += 1
        ids.append(people.ok("operator", "POST", PATH, json=wish(f"r-{number}"))["id"])
    link.deliveries()
    acknowledge(link, LabelReceipt(id=ids[0], outcomes={"joined": 1}))
    assert [delivery.id for delivery in link.deliveries()] == ids[1 : service.IN_FLIGHT + 1]


def test_what_waits_is_bounded_and_given_up_after_weeks(
    people: People, hub: Hub, clock: Clock, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 3)
    people.ok("operator", "POST", PATH, json=wish("r-1", "r-2"))
    refused = people.call("operator", "POST", PATH, json=wish("r-3", "r-4"))
    assert refused.status_code == 429
    assert "2 labels wait for device camera-1 already, at most 3 may" in refused.text
    clock.now += service.GIVE_UP_DAYS * DAY + 1
    hub.keep_labels()
    (shown,) = people.ok("viewer", "GET", PATH)
    assert shown["problem"] == "the device did not acknowledge it for 30 days"
    assert people.ok("auditor", "GET", "/v1/audit")[-1]["action"] == "give-up-labels"
    clock.now += service.FORGET_DAYS * DAY + 1
    hub.keep_labels()
    assert people.ok("viewer", "GET", PATH) == []


REFUSED: list[tuple[str, str, object, int, str]] = [
    ("viewer", PATH, wish("r-1"), 403, "operator"),
    ("approver", PATH, wish("r-1"), 403, "author"),
    ("operator", "/v1/devices/nobody/labels", wish("r-1"), 404, "nobody"),
    ("operator", PATH, {"model": "digits", "labels": []}, 400, "labels"),
    ("operator", PATH, wish("a\x1b[2J"), 400, "request"),
    ("operator", PATH, wish(*(f"r-{n}" for n in range(501))), 400, "labels"),
    ("operator", PATH, {**wish("r-1"), "model": "../x"}, 400, "model"),
]


def test_what_is_refused_says_why_and_a_revoked_device_is_sent_nothing(people: People, device: str) -> None:
    for who, path, body, status, text in REFUSED:
        response = people.call(who, "POST", path, json=body)
        assert response.status_code == status, response.text
        assert text in response.text
    people.ok("operator", "POST", f"/v1/devices/{device}/revoke", json={"reason": "stolen"})
    assert people.call("operator", "POST", PATH, json=wish("r-1")).status_code == 409


def accuracy(**changes: Any) -> Accuracy:
    fields: dict[str, Any] = {
        "time": 1.0,
        "model": "digits",
        "release": 3,
        "opened": 0.0,
        "closed": DAY,
        "origin": "person",
        "rows": 10,
        "correct": 9,
        "expected_rows": 10,
        "expected_correct": 9.5,
    }
    if "expected_rows" not in changes and "rows" in changes:
        fields |= {"expected_rows": changes["rows"], "expected_correct": 0.95 * changes["rows"]}
    return Accuracy(**(fields | changes))


@pytest.fixture
def store(hub: Hub, clock: Clock) -> Callable[..., None]:
    sequences: dict[str, int] = {}

    def put(*bodies: Body, device: str = "camera-1") -> None:
        start = sequences.get(device, 0)
        sequences[device] = start + len(bodies)
        records = tuple(Record(sequence=start + n, body=body) for n, body in enumerate(bodies, 1))
        payload = encode_batch(TelemetryBatch(device=device, epoch="e1", records=records))
        hub.database.write(lambda session: store_batches(session, [decode_envelope(payload)], clock.now))

    return put


def test_real_accuracy_adds_devices_and_days_and_takes_the_newest_of_each(
    people: People, device: str, store: Callable[..., None]
) -> None:
    people.enrol("camera-2")
    store(
        accuracy(),
        accuracy(opened=DAY, closed=2 * DAY, rows=5, correct=5, expected_rows=0, expected_correct=0.0),
    )
    store(accuracy(rows=12, correct=10))
    store(accuracy(rows=4, correct=1, suspicious=True), device="camera-2")
    store(accuracy(origin="model", rows=7, correct=7), accuracy(slice="camera=left", rows=2, correct=1))
    figures = people.ok("viewer", "GET", "/v1/accuracy/digits")
    assert [(each["origin"], each["slice"], each["correct"], each["rows"]) for each in figures] == [
        ("model", None, 7, 7),
        ("person", None, 10, 14),
        ("person", "camera=left", 1, 2),
    ]
    person = figures[1]
    assert (person["devices"], person["opened"], person["closed"]) == (2, 0.0, 2 * DAY)
    assert person["low"] < person["accuracy"] < person["high"]
    assert person["expected"] is None  # not known of every row
    assert person["suspicious"] == ["camera-2"]
    daily = people.ok("viewer", "GET", "/v1/accuracy/digits", params={"daily": True, "device": "camera-1"})
    assert [
        (each["opened"], each["correct"])
        for each in daily
        if each["origin"] == "person" and not each["slice"]
    ] == [
        (DAY, 5),
        (0.0, 10),
    ]
    assert people.ok("viewer", "GET", "/v1/accuracy/other") == []


LIES: list[dict[str, Any]] = [
    {"rows": 1, "correct": 100, "expected_rows": 0, "expected_correct": 0.0},
    {"rows": 2**50, "correct": 0, "expected_rows": 0, "expected_correct": 0.0},
    {"expected_rows": 11},
    {"expected_correct": -1.0},
    {"expected_correct": float("nan")},
    {"expected_correct": 1e300},
]


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_cannot_be_true_counts_nowhere_is_noticed_and_stops_nothing(
    people: People, hub: Hub, clock: Clock, device: str, store: Callable[..., None], lie: dict[str, Any]
) -> None:
    people.enrol("camera-2")
    store(accuracy(opened=clock.now, closed=clock.now + DAY))
    store(accuracy(opened=clock.now, closed=clock.now + DAY, **lie), device="camera-2")
    (figure,) = people.ok("viewer", "GET", "/v1/accuracy/digits")
    assert (figure["correct"], figure["rows"], figure["devices"]) == (9, 10, 1)
    clock.now += 100
    hub.keep_telemetry()
    kinds = {each["kind"]: each["subject"] for each in people.ok("viewer", "GET", "/v1/notices")}
    assert kinds == {"unusable-labels": "camera-2 digits"}


def test_no_device_has_more_say_than_the_median_one(
    people: People, device: str, store: Callable[..., None]
) -> None:
    for n in range(2, 11):
        people.enrol(f"camera-{n}")
        store(accuracy(rows=100, correct=95, expected_rows=0, expected_correct=0.0), device=f"camera-{n}")
    store(accuracy(rows=9_000_000, correct=0, expected_rows=0, expected_correct=0.0))
    (figure,) = people.ok("viewer", "GET", "/v1/accuracy/digits")
    assert figure["accuracy"] == pytest.approx(0.855)
    assert (figure["rows"], figure["correct"], figure["told"]) == (1000, 855, 9_000_900)
